"""``diff``: two streams compared.

Each has its own description, or one that is borrowed; devices are compared by
field wherever there is one, and by byte elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from vmstream.errors import StreamError
from vmstream.stream.registers import processors
from vmstream.stream.stream import Stream
from vmstream.tools.diff_fields import changes_of
from vmstream.tools.diff_heads import DevicePair, heads, pair_devices, sections
from vmstream.tools.diff_memory import diff_memory
from vmstream.tools.diff_quiet import quiet_register
from vmstream.tools.diff_report import DeviceDiff, RegisterChange, StreamDiff
from vmstream.tools.diff_sieve import Sieve
from vmstream.tools.diff_summary import summary
from vmstream.tools.reports import faults_of, file_of
from vmstream.vmstate.registers import Processor, Register

__all__ = ["diff"]

Advance = Callable[[int, int | None], None]


def diff(
    a: Stream,
    b: Stream,
    *,
    ignore: Iterable[str] = (),
    all: bool = False,
    ram: bool = True,
    advance: Advance | None = None,
) -> StreamDiff:
    """Everything that differs between two streams; a is the old one.

    Args:
        ignore: shell patterns over ``device:instance/path``, see
            :class:`~vmstream.tools.diff_sieve.Sieve`.
        all: count what always moves (clocks, timers), too.
        ram: compare guest memory.
        advance: called with bytes of memory compared and bytes in all.

    Raises:
        StreamError: a section's content can not be read.
    """
    sieve = Sieve(ignore, loud=all)
    pairs, *only = pair_devices(a, b)
    whole = tuple(heads(a, b, sieve))
    changed = tuple(sections(a, b, pairs, (only[0], only[1]), sieve))
    devices = tuple(_devices(pairs, sieve))
    memory = diff_memory(a, b, sieve, advance) if ram else None
    differs = whole or changed or devices or (memory is not None and memory.blocks)
    report = StreamDiff(
        a=file_of(a),
        b=file_of(b),
        summary="",
        identical=not differs,
        heads=whole,
        sections=changed,
        devices=devices,
        registers=tuple(_registers(a, b, devices, loud=all)),
        memory=memory,
        quieted=tuple(sieve.quieted),
        ignored=sieve.ignored,
        old_complete=a.complete,
        new_complete=b.complete,
        old_faults=faults_of(a),
        new_faults=faults_of(b),
    )
    return summary(report)


def _devices(pairs: Sequence[DevicePair], sieve: Sieve) -> Iterator[DeviceDiff]:
    for pair in pairs:
        key, other = pair.a.key, pair.b.key

        def keep(path: str, type_: str | None, key: str = key, other: str = other) -> bool:
            return sieve.passes(key, path, type_, other)

        changes, decoded = changes_of(pair.a, pair.b, keep)
        if changes:
            yield DeviceDiff(key, other, changes, decoded)


def _registers(
    a: Stream, b: Stream, devices: Sequence[DeviceDiff], *, loud: bool
) -> Iterator[RegisterChange]:
    """Registers that differ, of the processors whose fields do."""
    differing = {device.device: device.other for device in devices}
    try:
        mine, theirs = processors(a), processors(b)
    except StreamError:
        return  # no registers are known of this target; its fields are told
    for key, processor in mine.items():
        other = theirs.get(differing.get(key, ""))
        if other is not None:
            yield from _changed(key, processor, other, loud=loud)


def _changed(key: str, a: Processor, b: Processor, *, loud: bool) -> Iterator[RegisterChange]:
    old, new = ({r.name: r for r in side.registers} for side in (a, b))
    for name in dict.fromkeys((*old, *new)):
        values = _value(old.get(name)), _value(new.get(name))
        if values[0] != values[1] and (loud or not quiet_register(name)):
            bits = max(side[name].bits for side in (old, new) if name in side)
            yield RegisterChange(key, name, *values, bits)


def _value(register: Register | None) -> int | None:
    return None if register is None else register.value
