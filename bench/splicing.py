"""A relay that does nothing but pass on: what the system itself takes for that.

    python splicing.py HOST:PORT

It prints the port where it listens, and passes each connection on by way of a pipe
of a mebibyte, both ways, without a look at what goes by.
"""

import contextlib
import fcntl
import os
import socket
import sys
import threading

PIPE = 1 << 20


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Until the source closes."""
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
    with contextlib.suppress(OSError):
        while held := os.splice(source.fileno(), into, PIPE):
            while held:
                held -= os.splice(out, sink.fileno(), held)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def main() -> None:
    """Listen for ever."""
    host, _, port = sys.argv[1].rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        # One by one: a destination takes the first connection for the main channel.
        accepted, _ = listener.accept()
        connected = socket.create_connection((host, int(port)))
        for ends in ((accepted, connected), (connected, accepted)):
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=pass_on, args=ends, daemon=True).start()


if __name__ == "__main__":
    main()
