"""``registers``: every processor's registers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vmstream.stream.registers import processors
from vmstream.stream.stream import Stream
from vmstream.tools.reports import FaultReport, faults_of, file_of
from vmstream.vmstate.registers import Processor

__all__ = ["RegistersReport", "registers"]


class RegistersReport(msgspec.Struct, frozen=True):
    """The processors that were asked for, and what is wrong with the stream."""

    file: str
    processors: dict[str, Processor]
    """By device key (``cpu:0``), in stream order."""
    complete: bool
    faults: tuple[FaultReport, ...]
    missing: tuple[int, ...] = ()
    """Processors that were asked for and are not there."""

    @property
    def sound(self) -> bool:
        """The stream is whole, and has every processor that was asked for."""
        return self.complete and not self.faults and not self.missing


def registers(stream: Stream, cpus: Sequence[int] = ()) -> RegistersReport:
    """Read every register of the processors with these instance ids; of all when none is given.

    Raises:
        Unsupported: the stream has no state of processors, or nothing describes it.
    """
    found = processors(stream)
    chosen = {f"cpu:{number}": number for number in cpus}
    shown = {key: found[key] for key in found if key in chosen} if chosen else found
    missing = tuple(number for key, number in chosen.items() if key not in found)
    return RegistersReport(file_of(stream), shown, stream.complete, faults_of(stream), missing)
