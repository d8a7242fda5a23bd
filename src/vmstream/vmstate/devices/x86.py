"""The x86 processor, section ``cpu`` version 12 (QEMU ``target/i386/machine.c``)."""

from __future__ import annotations

from types import new_class
from typing import Any

from vmstream.vmstate.declare import (
    array,
    int32,
    int64,
    struct,
    subsection,
    tmp,
    uint8,
    uint16,
    uint32,
    uint64,
)
from vmstream.vmstate.fields import Opaque
from vmstream.vmstate.state import State

__all__ = ["X86Cpu", "X86Cpu32", "X86CpuOld"]


class FpRegisterParts(State, name="fpreg_tmp"):
    """An 80-bit register as it travels."""

    tmp_mant: int = uint64()
    tmp_exp: int = uint16()


def _gather(register: FpRegister, parts: FpRegisterParts) -> None:
    parts.tmp_mant, parts.tmp_exp = register.mantissa, register.exponent


def _scatter(register: FpRegister, parts: FpRegisterParts) -> None:
    register.mantissa, register.exponent = parts.tmp_mant, parts.tmp_exp


class FpRegister(State, name="fpreg"):
    """One x87 register: 64 bits of mantissa, sign and 15 bits of exponent."""

    mantissa = 0
    exponent = 0

    parts = tmp(FpRegisterParts, gather=_gather, scatter=_scatter, wire_name="tmp")


class Segment(State, name="segment", version=1, minimum_version=1):
    """A segment register with its hidden part."""

    selector: int = uint32()
    base: int = uint64()
    limit: int = uint32()
    flags: int = uint32()


class Segment32(Segment, name="segment", version=1, minimum_version=1):
    """The same on a 32-bit target."""

    base: int = uint32()


def _zmm(number: int) -> dict[tuple[int, ...], str]:
    return {(0,): f"_q[{number}]", (2, 6): f"_q_ZMMReg[{number}]"}


class Xmm(State, name="xmm_reg", version=1, minimum_version=1):
    """The low 128 bits of a vector register."""

    q0: int = uint64(wire_name=_zmm(0))
    q1: int = uint64(wire_name=_zmm(1))


class YmmHigh(State, name="ymmh_reg", version=1, minimum_version=1):
    """Bits 128 to 255."""

    q2: int = uint64(wire_name=_zmm(2))
    q3: int = uint64(wire_name=_zmm(3))


class ZmmHigh(State, name="zmmh_reg", version=1, minimum_version=1):
    """Bits 256 to 511."""

    q4: int = uint64(wire_name=_zmm(4))
    q5: int = uint64(wire_name=_zmm(5))
    q6: int = uint64(wire_name=_zmm(6))
    q7: int = uint64(wire_name=_zmm(7))


class Zmm(State, name="hi16_zmm_reg", version=1, minimum_version=1):
    """One of the upper sixteen vector registers, whole."""

    q0: int = uint64(wire_name=_zmm(0))
    q1: int = uint64(wire_name=_zmm(1))
    q2: int = uint64(wire_name=_zmm(2))
    q3: int = uint64(wire_name=_zmm(3))
    q4: int = uint64(wire_name=_zmm(4))
    q5: int = uint64(wire_name=_zmm(5))
    q6: int = uint64(wire_name=_zmm(6))
    q7: int = uint64(wire_name=_zmm(7))


class Mtrr(State, name="mtrr_var", version=1, minimum_version=1):
    """One variable range of memory types."""

    base: int = uint64()
    mask: int = uint64()


class Bound(State, name="bnd_regs", version=1, minimum_version=1):
    """One MPX bound."""

    lb: int = uint64()
    ub: int = uint64()


def _part(part: str, **fields: Any) -> type[State]:
    """A subsection ``cpu/<part>`` whose fields stand in ``env``."""
    for attribute, field in fields.items():
        if field._names is None:
            field._names = f"env.{attribute}"
    return new_class(
        "Cpu" + part.title().replace("_", ""),
        (State,),
        {"name": f"cpu/{part}", "version": 1, "minimum_version": 1},
        lambda members: members.update(fields, __doc__=f"Subsection cpu/{part}."),
    )


class X86Cpu(State, name="cpu", version=12, minimum_version=11):
    """A 64-bit processor as QEMU 2.9 and later send it."""

    regs: list[int] = array(uint64(), 16, wire_name="env.regs")
    eip: int = uint64(wire_name="env.eip")
    eflags: int = uint64(wire_name="env.eflags")
    hflags: int = uint32(wire_name="env.hflags")
    fpuc: int = uint16(wire_name="env.fpuc")
    fpus: int = uint16(wire_name="env.fpus_vmstate")
    fptag: int = uint16(wire_name="env.fptag_vmstate")
    fpregs_format: int = uint16(wire_name="env.fpregs_format_vmstate")
    fpregs: list[FpRegister] = array(FpRegister, 8, wire_name="env.fpregs")
    segs: list[Segment] = array(Segment, 6, wire_name="env.segs")
    ldt: Segment = struct(Segment, wire_name="env.ldt")
    tr: Segment = struct(Segment, wire_name="env.tr")
    gdt: Segment = struct(Segment, wire_name="env.gdt")
    idt: Segment = struct(Segment, wire_name="env.idt")
    sysenter_cs: int = uint32(wire_name="env.sysenter_cs")
    sysenter_esp: int = uint64(wire_name="env.sysenter_esp")
    sysenter_eip: int = uint64(wire_name="env.sysenter_eip")
    cr0: int = uint64(wire_name="env.cr[0]")
    cr2: int = uint64(wire_name="env.cr[2]")
    cr3: int = uint64(wire_name="env.cr[3]")
    cr4: int = uint64(wire_name="env.cr[4]")
    dr: list[int] = array(uint64(), 8, wire_name="env.dr")
    a20_mask: int = int32(wire_name="env.a20_mask")
    mxcsr: int = uint32(wire_name="env.mxcsr")
    xmm: list[Xmm] = array(Xmm, 16, wire_name="env.xmm_regs[0]")
    efer: int = uint64(wire_name="env.efer")
    star: int = uint64(wire_name="env.star")
    lstar: int = uint64(wire_name="env.lstar")
    cstar: int = uint64(wire_name="env.cstar")
    fmask: int = uint64(wire_name="env.fmask")
    kernelgsbase: int = uint64(wire_name="env.kernelgsbase")
    smbase: int = uint32(wire_name="env.smbase")
    pat: int = uint64(wire_name="env.pat")
    hflags2: int = uint32(wire_name="env.hflags2")
    vm_hsave: int = uint64(wire_name="env.vm_hsave")
    vm_vmcb: int = uint64(wire_name="env.vm_vmcb")
    tsc_offset: int = uint64(wire_name="env.tsc_offset")
    intercept: int = uint64(wire_name="env.intercept")
    intercept_cr_read: int = uint16(wire_name="env.intercept_cr_read")
    intercept_cr_write: int = uint16(wire_name="env.intercept_cr_write")
    intercept_dr_read: int = uint16(wire_name="env.intercept_dr_read")
    intercept_dr_write: int = uint16(wire_name="env.intercept_dr_write")
    intercept_exceptions: int = uint32(wire_name="env.intercept_exceptions")
    v_tpr: int = uint8(wire_name="env.v_tpr")
    mtrr_fixed: list[int] = array(uint64(), 11, wire_name="env.mtrr_fixed")
    mtrr_deftype: int = uint64(wire_name="env.mtrr_deftype")
    mtrr_var: list[Mtrr] = array(Mtrr, 8, wire_name="env.mtrr_var")
    interrupt_injected: int = int32(wire_name="env.interrupt_injected")
    mp_state: int = uint32(wire_name="env.mp_state")
    tsc: int = uint64(wire_name="env.tsc")
    exception_nr: int = int32(
        wire_name={(0,): "env.exception_injected", (4, 1): "env.exception_nr"}
    )
    soft_interrupt: int = uint8(wire_name="env.soft_interrupt")
    nmi_injected: int = uint8(wire_name="env.nmi_injected")
    nmi_pending: int = uint8(wire_name="env.nmi_pending")
    has_error_code: int = uint8(wire_name="env.has_error_code")
    sipi_vector: int = uint32(wire_name="env.sipi_vector")
    mcg_cap: int = uint64(wire_name="env.mcg_cap")
    mcg_status: int = uint64(wire_name="env.mcg_status")
    mcg_ctl: int = uint64(wire_name="env.mcg_ctl")
    mce_banks: list[int] = array(uint64(), 40, wire_name="env.mce_banks")
    tsc_aux: int = uint64(wire_name="env.tsc_aux")
    system_time_msr: int = uint64(wire_name="env.system_time_msr")
    wall_clock_msr: int = uint64(wire_name="env.wall_clock_msr")
    xcr0: int = uint64(wire_name="env.xcr0", since=12)
    xstate_bv: int = uint64(wire_name="env.xstate_bv", since=12)
    ymm_high: list[YmmHigh] = array(YmmHigh, 16, wire_name="env.xmm_regs[1]", since=12)

    exception_info = subsection(
        _part(
            "exception_info",
            exception_pending=uint8(),
            exception_injected=uint8(),
            exception_has_payload=uint8(),
            exception_payload=uint64(),
        )
    )
    async_pf_msr = subsection(_part("async_pf_msr", async_pf_en_msr=uint64()))
    async_pf_int_msr = subsection(_part("async_pf_int_msr", async_pf_int_msr=uint64()))
    pv_eoi_msr = subsection(_part("async_pv_eoi_msr", pv_eoi_en_msr=uint64()))
    steal_time_msr = subsection(_part("steal_time_msr", steal_time_msr=uint64()))
    poll_control_msr = subsection(_part("poll_control_msr", poll_control_msr=uint64()))
    fpop_ip_dp = subsection(_part("fpop_ip_dp", fpop=uint16(), fpip=uint64(), fpdp=uint64()))
    tsc_adjust = subsection(_part("msr_tsc_adjust", tsc_adjust=uint64()))
    tsc_deadline = subsection(_part("msr_tscdeadline", tsc_deadline=uint64()))
    misc_enable = subsection(_part("msr_ia32_misc_enable", msr_ia32_misc_enable=uint64()))
    feature_control = subsection(
        _part("msr_ia32_feature_control", msr_ia32_feature_control=uint64())
    )
    pmu = subsection(
        _part(
            "msr_architectural_pmu",
            msr_fixed_ctr_ctrl=uint64(),
            msr_global_ctrl=uint64(),
            msr_global_status=uint64(),
            msr_global_ovf_ctrl=uint64(),
            msr_fixed_counters=array(uint64(), 3),
            msr_gp_counters=array(uint64(), 18),
            msr_gp_evtsel=array(uint64(), 18),
        )
    )
    mpx = subsection(
        _part(
            "mpx",
            bnd_regs=array(Bound, 4),
            bndcs_cfgu=uint64(wire_name="env.bndcs_regs.cfgu"),
            bndcs_sts=uint64(wire_name="env.bndcs_regs.sts"),
            msr_bndcfgs=uint64(),
        )
    )
    hyperv_hypercall = subsection(
        _part("msr_hyperv_hypercall", msr_hv_guest_os_id=uint64(), msr_hv_hypercall=uint64())
    )
    hyperv_vapic = subsection(_part("msr_hyperv_vapic", msr_hv_vapic=uint64()))
    hyperv_time = subsection(_part("msr_hyperv_time", msr_hv_tsc=uint64()))
    hyperv_crash = subsection(_part("msr_hyperv_crash", msr_hv_crash_params=array(uint64(), 5)))
    hyperv_runtime = subsection(_part("msr_hyperv_runtime", msr_hv_runtime=uint64()))
    hyperv_synic = subsection(
        _part(
            "msr_hyperv_synic",
            msr_hv_synic_control=uint64(),
            msr_hv_synic_evt_page=uint64(),
            msr_hv_synic_msg_page=uint64(),
            msr_hv_synic_sint=array(uint64(), 16),
        )
    )
    hyperv_stimer = subsection(
        _part(
            "msr_hyperv_stimer",
            msr_hv_stimer_config=array(uint64(), 4),
            msr_hv_stimer_count=array(uint64(), 4),
        )
    )
    hyperv_reenlightenment = subsection(
        _part(
            "msr_hyperv_reenlightenment",
            msr_hv_reenlightenment_control=uint64(),
            msr_hv_tsc_emulation_control=uint64(),
            msr_hv_tsc_emulation_status=uint64(),
        )
    )
    avx512 = subsection(
        _part(
            "avx512",
            opmask_regs=array(uint64(), 8),
            zmm_high=array(ZmmHigh, 16, wire_name="env.xmm_regs[0]"),
            zmm_upper=array(Zmm, 16, wire_name="env.xmm_regs[1]"),
        )
    )
    xss = subsection(_part("xss", xss=uint64()))
    umwait = subsection(_part("umwait", umwait=uint32()))
    tsc_khz = subsection(_part("tsc_khz", tsc_khz=int64()))
    msr_smi_count = subsection(_part("msr_smi_count", msr_smi_count=uint64()))
    pkru = subsection(_part("pkru", pkru=uint32()))
    pkrs = subsection(_part("pkrs", pkrs=uint32()))
    spec_ctrl = subsection(_part("spec_ctrl", spec_ctrl=uint64()))
    mcg_ext_ctl = subsection(_part("mcg_ext_ctl", mcg_ext_ctl=uint64()))
    intel_pt = subsection(
        _part(
            "intel_pt",
            msr_rtit_ctrl=uint64(),
            msr_rtit_status=uint64(),
            msr_rtit_output_base=uint64(),
            msr_rtit_output_mask=uint64(),
            msr_rtit_cr3_match=uint64(),
            msr_rtit_addrs=array(uint64(), 8),
        )
    )
    virt_ssbd = subsection(_part("virt_ssbd", virt_ssbd=uint64()))
    svm_npt = subsection(_part("svn_npt", nested_cr3=uint64(), nested_pg_mode=uint32()))


class X86CpuOld(X86Cpu, name="cpu", version=12, minimum_version=11):
    """As QEMU 2.8 and earlier describe it; the bytes are the same."""

    fpregs: list[bytes] = array(  # type: ignore[assignment]  # another form of the same bytes
        Opaque(10, "fpreg"), 8, wire_name="env.fpregs[0]", exists=lambda self, version: True
    )
    sysenter_esp: int = uint64(wire_name="env.sysenter_esp[1]")
    sysenter_eip: int = uint64(wire_name="env.sysenter_eip[1]")


class X86Cpu32(X86Cpu, name="cpu", version=12, minimum_version=11):
    """A 32-bit processor (``qemu-system-i386``): narrow registers, eight of each."""

    regs: list[int] = array(uint32(), 8, wire_name="env.regs")
    eip: int = uint32(wire_name="env.eip")
    eflags: int = uint32(wire_name="env.eflags")
    segs: list[Segment] = array(Segment32, 6, wire_name="env.segs")
    ldt: Segment = struct(Segment32, wire_name="env.ldt")
    tr: Segment = struct(Segment32, wire_name="env.tr")
    gdt: Segment = struct(Segment32, wire_name="env.gdt")
    idt: Segment = struct(Segment32, wire_name="env.idt")
    sysenter_esp: int = uint32(wire_name="env.sysenter_esp")
    sysenter_eip: int = uint32(wire_name="env.sysenter_eip")
    cr0: int = uint32(wire_name="env.cr[0]")
    cr2: int = uint32(wire_name="env.cr[2]")
    cr3: int = uint32(wire_name="env.cr[3]")
    cr4: int = uint32(wire_name="env.cr[4]")
    dr: list[int] = array(uint32(), 8, wire_name="env.dr")
    xmm: list[Xmm] = array(Xmm, 8, wire_name="env.xmm_regs[0]")
    efer: int = uint64(wire_name="env.efer", exists=lambda self, version: False)
    star: int = uint64(wire_name="env.star", exists=lambda self, version: False)
    lstar: int = uint64(wire_name="env.lstar", exists=lambda self, version: False)
    cstar: int = uint64(wire_name="env.cstar", exists=lambda self, version: False)
    fmask: int = uint64(wire_name="env.fmask", exists=lambda self, version: False)
    kernelgsbase: int = uint64(wire_name="env.kernelgsbase", exists=lambda self, version: False)
    ymm_high: list[YmmHigh] = array(YmmHigh, 8, wire_name="env.xmm_regs[1]", since=12)
