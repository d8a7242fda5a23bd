"""QEMU's migration system, outside QEMU."""

__version__ = "0.1.0"
