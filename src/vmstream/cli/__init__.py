"""The ``vmstream`` command: one module for each verb.

This module is imported at every start, so it imports nothing but what finds
the verb; the parser and everything else come with the verb's own module.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]

VERBS = {
    "inspect": "what a stream holds, on one page",
    "registers": "processor registers, as gdb shows them",
    "show": "decoded device state",
    "verify": "structure, footers, description against bytes, completeness",
    "memory": "RAM blocks with the SHA-256 of their content; a hex dump; a search",
    "extract": "guest memory for drgn, crash, gdb, Volatility or a fuzzer",
    "receive": "take a migration from a real QEMU",
    "send": "give a stream to a real QEMU that waits for one",
    "capture": "save the guest of a running QEMU, and leave it as it was",
    "restore": "give the guest in a stream to a QEMU, started for it or waiting",
    "relay": "stand between a source and a destination: record, time line, faults",
    "check": "will a given destination load it; if not, which field breaks",
    "edit": "a new stream: fields, subsections, devices, names, memory; recipes of such edits",
    "diff": "what differs between two streams: devices, fields, registers, memory",
    "convert": "the same guest in another form: plain, mapped-ram, multifd, a libvirt image",
    "explain": "why a migration failed, from a log",
    "schema": "show, diff or obtain what device state QEMUs declare (-dump-vmstate)",
}

USAGE = """\
Usage: vmstream VERB STREAM [CHANNEL...] [OPTIONS]

QEMU migration streams, deciphered.

{verbs}

STREAM is a path, a URL or - for standard input: a plain stream, one compressed
with gzip, bzip2, xz, zstd or lzop, a libvirt save image, a qcow2 image with an
internal snapshot, or a mapped-ram file. CHANNEL files are the multifd, preempt
or return-path captures of the same migration, in any order.

vmstream VERB --help tells a verb's options.
Exit status: 0 fine, 1 a finding, 2 usage or unreadable input.
"""


def usage() -> str:
    """What ``vmstream --help`` prints."""
    width = max(map(len, VERBS))
    return USAGE.format(
        verbs="\n".join(f"  {verb:{width}}  {what}" for verb, what in VERBS.items())
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from vmstream import __version__

        sys.stdout.write(f"vmstream {__version__}\n")
        return 0
    if words[0] not in VERBS:
        sys.stderr.write(f"vmstream: {words[0]!r} is no verb; there are {', '.join(VERBS)}\n")
        return 2
    # numpy's OpenBLAS starts a thread for every processor at import; nothing here multiplies.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from vmstream.cli.run import run_verb

    return run_verb(words[0], words[1:])
