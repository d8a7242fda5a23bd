"""Driving migrations: a QEMU under control."""
