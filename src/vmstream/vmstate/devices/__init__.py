"""Declarations of real devices, as QEMU has them.

They show how a declaration looks, and are proven on recorded streams: loaded
and saved again, bytes and description are the same.
"""
