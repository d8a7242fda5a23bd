"""The verdict before a migration: will that destination load this guest."""
