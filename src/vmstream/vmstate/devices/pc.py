"""Devices of the PC, from QEMU ``hw/char``, ``hw/rtc``, ``hw/timer``, ``hw/intc``, ``hw/input``."""

from __future__ import annotations

from vmstream.vmstate.declare import (
    NOT_PENDING,
    array,
    buffer,
    int32,
    int64,
    struct,
    subsection,
    timer,
    uint8,
    uint16,
    uint32,
    uint64,
    unused,
    validate,
)
from vmstream.vmstate.state import State

__all__ = [
    "I8254",
    "I8259",
    "FwCfg",
    "Hpet",
    "IsaSerial",
    "Mc146818Rtc",
    "Ps2Keyboard",
    "Ps2Mouse",
    "Serial",
]


class Serial(State, name="serial", version=3, minimum_version=2):
    """A 16550A (``hw/char/serial.c``)."""

    divider: int = uint16(since=2)
    rbr: int = uint8()
    ier: int = uint8()
    iir: int = uint8()
    lcr: int = uint8()
    mcr: int = uint8()
    lsr: int = uint8()
    msr: int = uint8()
    scr: int = uint8()
    fcr: int = uint8(wire_name="fcr_vmstate", since=3)


class IsaSerial(State, name="serial", version=3, minimum_version=2):
    """The ISA card around it (``hw/char/serial-isa.c``)."""

    state: Serial = struct(Serial)


class RtcReinject(State, name="mc146818rtc/irq_reinject_on_ack_count", version=1):
    """Interrupts lost while the guest did not acknowledge."""

    irq_reinject_on_ack_count: int = uint16()


class Mc146818Rtc(State, name="mc146818rtc", version=3, minimum_version=1):
    """The real-time clock with its CMOS memory (``hw/rtc/mc146818rtc.c``)."""

    cmos_data: bytes = buffer(128)
    cmos_index: int = uint8()
    unused_1: bytes = unused(7 * 4)
    periodic_timer: int = timer()
    next_periodic_time: int = int64()
    unused_2: bytes = unused(3 * 8)
    irq_coalesced: int = uint32(since=2)
    period: int = uint32(since=2)
    base_rtc: int = uint64(since=3)
    last_update: int = uint64(since=3)
    offset: int = int64(since=3)
    update_timer: int = timer(since=3)
    next_alarm_time: int = uint64(since=3)
    reinject: RtcReinject | None = subsection(RtcReinject)


class PitChannel(State, name="pit channel", version=2, minimum_version=2):
    """One counter of the 8254."""

    count: int = int32()
    latched_count: int = uint16()
    count_latched: int = uint8()
    status_latched: int = uint8()
    status: int = uint8()
    read_state: int = uint8()
    write_state: int = uint8()
    write_latch: int = uint8()
    rw_mode: int = uint8()
    mode: int = uint8()
    bcd: int = uint8()
    gate: int = uint8()
    count_load_time: int = int64()
    next_transition_time: int = int64()


class I8254(State, name="i8254", version=3, minimum_version=2):
    """The interval timer (``hw/timer/i8254_common.c``)."""

    irq_disabled: int = uint32(wire_name="channels[0].irq_disabled", since=3)
    channels: list[PitChannel] = array(PitChannel, 3, since=2)
    next_transition_time: int = int64(wire_name="channels[0].next_transition_time")


class I8259(State, name="i8259", version=1, minimum_version=1):
    """One of the two interrupt controllers (``hw/intc/i8259_common.c``)."""

    last_irr: int = uint8()
    irr: int = uint8()
    imr: int = uint8()
    isr: int = uint8()
    priority_add: int = uint8()
    irq_base: int = uint8()
    read_reg_select: int = uint8()
    poll: int = uint8()
    special_mask: int = uint8()
    init_state: int = uint8()
    auto_eoi: int = uint8()
    rotate_on_auto_eoi: int = uint8()
    special_fully_nested_mode: int = uint8()
    init4: int = uint8()
    single_mode: int = uint8()
    elcr: int = uint8()


class Ps2Common(State, name="PS2 Common State", version=3, minimum_version=2):
    """The queue between device and controller (``hw/input/ps2.c``)."""

    write_cmd: int = int32()
    rptr: int = int32(wire_name="queue.rptr")
    wptr: int = int32(wire_name="queue.wptr")
    count: int = int32(wire_name="queue.count")
    data: bytes = buffer(256, wire_name="queue.data")


_COMMON = {(0,): "common", (7, 1): "parent_obj"}


class Ps2KeyboardLeds(State, name="ps2kbd/ledstate", version=3, minimum_version=2):
    """Which lights are on."""

    ledstate: int = int32()


class Ps2Keyboard(State, name="ps2kbd", version=3, minimum_version=2):
    """The keyboard."""

    common: Ps2Common = struct(Ps2Common, wire_name=_COMMON)
    scan_enabled: int = int32()
    translate: int = int32()
    scancode_set: int = int32(since=3)
    leds: Ps2KeyboardLeds | None = subsection(Ps2KeyboardLeds)


class Ps2Mouse(State, name="ps2mouse", version=2, minimum_version=2):
    """The mouse."""

    common: Ps2Common = struct(Ps2Common, wire_name=_COMMON)
    mouse_status: int = uint8()
    mouse_resolution: int = uint8()
    mouse_sample_rate: int = uint8()
    mouse_wrap: int = uint8()
    mouse_type: int = uint8()
    mouse_detect_state: int = uint8()
    mouse_dx: int = int32()
    mouse_dy: int = int32()
    mouse_dz: int = int32()
    mouse_buttons: int = uint8()


class FwCfgDma(State, name="fw_cfg/dma"):
    """The address register of the DMA interface."""

    dma_addr: int = uint64()


class FwCfgAcpi(State, name="fw_cfg/acpi_mr", version=1, minimum_version=1):
    """Sizes of the ACPI tables' memory regions (5.2+)."""

    table_mr_size: int = uint64()
    linker_mr_size: int = uint64()
    rsdp_mr_size: int = uint64()


class FwCfg(State, name="fw_cfg", version=2, minimum_version=1):
    """The firmware configuration device (``hw/nvram/fw_cfg.c``)."""

    cur_entry: int = uint16()
    cur_offset_1: int = uint16(wire_name="cur_offset", exists=lambda self, version: version == 1)
    cur_offset: int = uint32(since=2)
    dma: FwCfgDma | None = subsection(FwCfgDma)
    acpi: FwCfgAcpi | None = subsection(FwCfgAcpi)

    def after_load(self, version: int) -> None:
        """Version 1 had 16 bits of offset."""
        if version == 1:
            self.cur_offset = self.cur_offset_1


class HpetTimer(State, name="hpet_timer", version=1, minimum_version=1):
    """One comparator."""

    tn: int = uint8()
    config: int = uint64()
    cmp: int = uint64()
    fsb: int = uint64()
    period: int = uint64()
    wrap_flag: int = uint8()
    qemu_timer: int = timer()


class HpetLegacy(State, name="hpet/rtc_irq_level", version=1, minimum_version=1):
    """The level of the RTC's line in legacy mode."""

    rtc_irq_level: int = uint8()


class HpetOffset(State, name="hpet/offset", version=1, minimum_version=1):
    """The counter's offset while it runs."""

    hpet_offset: int = uint64()


class Hpet(State, name="hpet", version=2, minimum_version=1):
    """The high precision event timer (``hw/timer/hpet.c``)."""

    config: int = uint64()
    isr: int = uint64()
    hpet_counter: int = uint64()
    num_timers: int = uint8(wire_name={(0,): "num_timers", (10, 0): "num_timers_save"}, since=2)
    num_timers_in_range = validate(
        lambda self, version: self.num_timers <= 32, "num_timers in range"
    )
    timers: list[HpetTimer] = array(HpetTimer, "num_timers", wire_name="timer", maximum=32)
    rtc_irq_level: HpetLegacy | None = subsection(HpetLegacy)
    offset: HpetOffset | None = subsection(HpetOffset)

    def armed(self) -> list[int]:
        """Numbers of the comparators whose timer is pending."""
        return [timer.tn for timer in self.timers if timer.qemu_timer != NOT_PENDING]
