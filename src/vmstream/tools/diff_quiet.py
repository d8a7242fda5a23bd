"""What always moves: fields that differ between any two moments of the same guest.

One table, of shell patterns: over the last part of a device's idstr, and over
the field's path with ``[0]`` at the end for one element of an array. Names are
those of QEMU's device code, 2.2 to 10.0.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import cache

import msgspec

__all__ = ["QUIET", "Quiet", "quiet_register", "reason_of"]


class Quiet(msgspec.Struct, frozen=True):
    """Fields that move by themselves, and why."""

    device: str
    path: str
    reason: str


_TIMERS = "the time at which a timer goes off"
_CLOCK = "the guest's clock"
_STARTED = "the time at which a timer was started"
_COUNTER = "a counter that time drives"
_OFFSET = "a clock's offset from the host's"

_QUIET_TYPES = {"timer": _TIMERS}
"""Wire types that hold nothing but time."""

QUIET = (
    Quiet("timer", "cpu_ticks_offset", _CLOCK),
    Quiet("timer", "cpu_clock_offset", _CLOCK),
    Quiet("kvmclock", "clock", _CLOCK),
    # x86
    Quiet("cpu", "env.tsc", "the time stamp counter"),
    Quiet("cpu", "*.env.tsc_deadline", _TIMERS),
    Quiet("cpu", "*.env.msr_hv_runtime", "the time that the processor ran"),
    Quiet("apic", "initial_count_load_time", _STARTED),
    Quiet("apic", "next_time", _TIMERS),
    Quiet("apic", "timer_expiry", _TIMERS),
    Quiet("hpet", "hpet_counter", _COUNTER),
    Quiet("hpet", "hpet/offset.hpet_offset", _OFFSET),
    Quiet("hpet", "timer*.cmp*", "a periodic timer's comparator, which moves on with it"),
    Quiet("i8254", "channels*.count_load_time", _STARTED),
    Quiet("i8254", "channels*.next_transition_time", _TIMERS),
    Quiet("mc146818rtc", "last_update", _CLOCK),
    Quiet("mc146818rtc", "offset", _OFFSET),
    Quiet("mc146818rtc", "next_alarm_time", _TIMERS),
    Quiet("mc146818rtc", "next_periodic_time", _TIMERS),
    *(
        Quiet("mc146818rtc", f"cmos_data[[]{byte}]", "the date and time as last read out")
        for byte in (0, 2, 4, 6, 7, 8, 9, 0x32)
    ),
    Quiet("mc146818rtc", "cmos_data[[]12]", "interrupt flags, which the clock sets each second"),
    Quiet("piix4_pm", "ar.tmr.overflow_time", _TIMERS),
    Quiet("ICH9LPC", "*.tmr.overflow_time", _TIMERS),
    Quiet("ICH9LPC", "*.tco_regs.expire_time", _TIMERS),
    Quiet("vt82c686b_pm", "ar.tmr.overflow_time", _TIMERS),
    Quiet("pcspk", "dummy_refresh_clock", "a bit that toggles with each read"),
    # Buses and devices anywhere
    Quiet("*ehci*", "*frindex", _COUNTER),
    Quiet("*ehci*", "*.last_run_ns", _CLOCK),
    Quiet("*uhci", "frnum", _COUNTER),
    Quiet("*uhci", "expire_time", _TIMERS),
    Quiet("ohci*", "state.frame_number", _COUNTER),
    Quiet("ohci*", "state.sof_time", _STARTED),
    Quiet("dwc2", "frame_number", _COUNTER),
    Quiet("dwc2", "sof_time", _STARTED),
    Quiet("xhci", "xhci.mfindex_start", _STARTED),
    Quiet("intel-hda", "wall_base_ns", _STARTED),
    Quiet("pcnet", "state.timer", _STARTED),
    Quiet("ds1338", "offset", _OFFSET),
    # QEMU's generic down-counter, part of many timers of Arm, SPARC and others
    Quiet("*", "*timer*.next_event", _TIMERS),
    Quiet("*", "*timer*.last_event", _STARTED),
    Quiet("*", "*timer*.delta", _COUNTER),
    # Arm, RISC-V
    Quiet("pl031", "*tick_offset*", _OFFSET),
    Quiet("goldfish_rtc", "tick_offset*", _OFFSET),
    Quiet("arm.cortex-a9-global-timer", "*counter", _COUNTER),
    Quiet("arm.cortex-a9-global-timer", "cpu_ref_time", _STARTED),
    Quiet("lan9118", "free_timer_start", _STARTED),
    Quiet("cpu", "env.pmu_ctrs*.mhpmcounter*", _COUNTER),
    # PowerPC, m68k
    Quiet("spapr", "tb.guest_timebase", _CLOCK),
    Quiet("spapr", "tb.time_of_the_day_ns", _CLOCK),
    Quiet("rtc", "ns_offset", _OFFSET),
    *(
        Quiet(device, path, reason)
        for device in ("cuda", "mos6522", "q800-via*")
        for path, reason in (
            ("*timers*.counter_value", _COUNTER),
            ("*timers*.load_time", _STARTED),
            ("*timers*.next_irq_time", _TIMERS),
        )
    ),
    Quiet("cuda", "tick_offset", _OFFSET),
    Quiet("q800-via1", "tick_offset", _OFFSET),
    Quiet("q800-via1", "next_second", _TIMERS),
    Quiet("q800-via1", "next_sixty_hz", _TIMERS),
    # Others
    Quiet("cpu", "env.cputm", "the processor timer of s390x"),
    Quiet("todclock", "*", _CLOCK),
    Quiet("cpu", "env.CP0_Count", "the count register of MIPS"),
    Quiet("cpu", "env.*tick.clock_offset", "the tick counters of SPARC"),
    Quiet("or1k_timer", "last_clk", _CLOCK),
    Quiet("rx-cmt", "tick", _STARTED),
    Quiet("rx-tmr", "tick", _STARTED),
)

_QUIET_REGISTERS = frozenset(("tsc", "tsc_deadline"))
"""Registers by gdb's names that say what quiet fields of ``cpu`` say."""


def quiet_register(name: str) -> bool:
    """Whether a register always moves."""
    return name in _QUIET_REGISTERS


def reason_of(device: str, path: str, type_: str | None) -> str | None:
    """Why a field always moves, or None when it does not.

    Args:
        device: the last part of the idstr.
        type_: the field's wire type.
    """
    if type_ in _QUIET_TYPES:
        return _QUIET_TYPES[type_]
    return next((reason for path_of, reason in _patterns(device) if path_of.match(path)), None)


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(translate(q.device)), re.compile(translate(q.path)), q.reason) for q in QUIET
    )


@cache
def _patterns(device: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((path, reason) for name, path, reason in _compiled() if name.match(device))
