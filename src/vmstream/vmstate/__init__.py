"""Device state: its description, decoding by description, declaration."""
