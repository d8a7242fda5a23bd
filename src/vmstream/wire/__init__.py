"""What each record of a stream looks like on the wire.

Every module holds, for one kind of record, its constants, a frozen struct
with an ``encode`` method, and a ``read_...`` generator that makes it from a
:class:`~vmstream.wire.reader.Reader`. Nothing here opens or prints anything.
All integers are big-endian unless a docstring says otherwise.
"""
