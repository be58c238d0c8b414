"""SYSCALL and SYSRET, SWAPGS, MSRs, control registers, CPUID and the TSC (SDM vol. 2; vol. 3, chapters 2, 5.8.8, 18.7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import attempts
import pytest
import qemu
import system_guest
from attempts import Deviates, Expectation
from system_guest import CR0, CR4, CR4_FSGSBASE, DATA, EFER, EFER_NXE, RESUME, UCODE, USTACK, Guest, Outcome

Run = Callable[[Guest], Outcome]
GP, UD = 13, 6
BAD = 0x800000000000

STAR, LSTAR, CSTAR, SFMASK = 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103
EFER_MSR = 0xC0000080
SYSRETQ = ".byte 0x48, 0x0f, 0x07"


def wrmsr(msr: int, value: int) -> str:
    return f"mov ecx, {msr}\n mov eax, {value & 0xFFFFFFFF}\n mov edx, {value >> 32 & 0xFFFFFFFF}\n wrmsr\n"


SYSCALL_SETUP = (
    wrmsr(STAR, 0x23 << 48 | 0x10 << 32)
    + f"lea rax, [rip + entry]\n mov rdx, rax\n shr rdx, 32\n mov ecx, {LSTAR}\n wrmsr\n"
)


def test_syscall_and_sysret(machine: Run) -> None:
    """CS and SS from STAR, RIP to RCX, RFLAGS to R11 and masked by SFMASK; SYSRET back with RFLAGS from R11."""
    outcome = machine(
        Guest(
            f"""
            {SYSCALL_SETUP}
            {wrmsr(SFMASK, 0x700)}
            RESUME_AT last
            TO_USER UCODE, 0xed7
        entry:
            mov [DATA], rcx
            mov [DATA + 8], r11
            mov [DATA + 16], rsp
            pushfq
            .byte 0x8c, 0xc8            # mov eax, cs
            mov [DATA + 24], rax
            mov eax, ss
            mov [DATA + 32], rax
            pop rax
            mov [DATA + 40], rax
            # what the user's RFLAGS becomes: R11 but for RF, VM and reserved bits
            or r11, {0x10000 if machine is qemu.run else 0x30000}
            {SYSRETQ}
        last:
            FINISH
            """,
            f"""
            mov rsp, {USTACK - 64}
            syscall
            after:
            pushfq
            pop r8
            mov r9d, cs
            mov r10d, ss
            int 0x81
            """,
            policies={0x81: RESUME},
        )
    )
    next_rip = UCODE + 7 + 2
    assert outcome.u64(DATA) == next_rip
    assert outcome.u64(DATA + 8) & ~0x10000 == 0xED7
    assert outcome.u64(DATA + 16) == USTACK - 64
    assert outcome.u64(DATA + 24) == 0x10
    assert outcome.u64(DATA + 32) == 0x18
    if machine is not qemu.run:  # QEMU 7.2 clears the arithmetic flags
        assert outcome.u64(DATA + 40) == 0xED7 & ~0x700
    assert outcome.gpr["r8"] == 0xED7
    assert (outcome.gpr["r9"], outcome.gpr["r10"]) == (0x33, 0x2B)
    assert outcome.gpr["r11"] & ~0x30000 == 0xED7
    assert outcome.gpr["rcx"] == next_rip


def test_syscall_disabled(machine: Run) -> None:
    """EFER.SCE = 0: #UD, at any level."""
    attempts.expect([("syscall", UD), (SYSRETQ, UD)], machine, efer=(EFER | EFER_NXE) & ~1)
    attempts.expect([("syscall", UD)], machine, user=True, efer=(EFER | EFER_NXE) & ~1)


def test_sysret_faults(machine: Run) -> None:
    """A non-canonical RCX faults at CPL 0, with the kernel's stack (Intel; AMD would fault at CPL 3)."""
    tried: list[tuple[str, Expectation]] = [
        (f"mov rcx, {BAD}\n mov r11d, 2 || {SYSRETQ}", Deviates((GP, 0), "faults after the return, as AMD")),
        (f"mov rcx, -{BAD + 1}\n mov r11d, 2 || {SYSRETQ}", Deviates((GP, 0), "faults after the return, as AMD")),
    ]
    attempts.expect(tried, machine, prologue=wrmsr(STAR, 0x23 << 48 | 0x10 << 32))


def test_sysenter_is_not_offered() -> None:
    """CPUID hides SEP in this profile, so SYSENTER and SYSEXIT raise #UD."""
    attempts.expect([("sysenter", UD), (".byte 0x0f, 0x35", UD)], system_guest.run)


def test_swapgs(machine: Run) -> None:
    outcome = machine(
        Guest(
            f"""
            {wrmsr(GS_BASE, 0x1111222233)}
            {wrmsr(KERNEL_GS_BASE, 0xFFFF888000001000)}
            swapgs
            rdgsbase rax
            mov [DATA], rax
            {rdmsr(KERNEL_GS_BASE, 8)}
            {rdmsr(GS_BASE, 16)}
            swapgs
            rdgsbase rax
            mov [DATA + 24], rax
            FINISH
            """,
            cr4=CR4 | CR4_FSGSBASE,
        )
    )
    assert [outcome.u64(DATA + 8 * i) for i in range(4)] == [
        0xFFFF888000001000,
        0x1111222233,
        0xFFFF888000001000,
        0x1111222233,
    ]


def rdmsr(msr: int, offset: int) -> str:
    return f"mov ecx, {msr}\n rdmsr\n mov [DATA + {offset}], eax\n mov [DATA + {offset + 4}], edx\n"


MSRS = {
    STAR: 0x0023001012345678, LSTAR: 0xFFFFFFFF81234567, CSTAR: 0xFFFF800000000000, SFMASK: 0x47700, FS_BASE: 0x7FFFFFFFFFFF,
    GS_BASE: 0xFFFF800000000000, KERNEL_GS_BASE: 0x123456789ABC, 0x174: 0x10, 0x175: 0xFFFF888000000000, 0x176: 0xFFFFFFFF80001000,
    0x277: 0x0006050407010006, TSC_AUX: 0x89ABCDEF,
}  # fmt: skip


def test_msrs_read_back(machine: Run) -> None:
    text = "".join(wrmsr(msr, value) + rdmsr(msr, 8 * i) for i, (msr, value) in enumerate(MSRS.items()))
    outcome = machine(Guest(text + "FINISH"))
    for i, (msr, value) in enumerate(MSRS.items()):
        assert outcome.u64(DATA + 8 * i) == value, f"MSR {msr:#x}"


def test_segment_bases_take_effect(machine: Run) -> None:
    outcome = machine(
        Guest(
            f"""
            {wrmsr(FS_BASE, DATA + 0x100)}
            {wrmsr(GS_BASE, DATA + 0x1000)}
            mov qword ptr fs:[0x10], 5
            mov rax, -0x800
            mov qword ptr gs:[rax], 6
            mov eax, 0xfffffff0
            mov rbx, fs:[0x10]
            FINISH
            """
        )
    )
    assert outcome.u64(DATA + 0x110) == 5
    assert outcome.u64(DATA + 0x800) == 6


def test_msr_values_refused(machine: Run) -> None:
    tried: list[tuple[str, Expectation]] = []
    for msr in (LSTAR, CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE):
        wanted: Expectation = Deviates((GP, 0), "takes any address")
        tried.append((f"mov ecx, {msr}\n xor eax, eax\n mov edx, 0x8000 || wrmsr", wanted))
    tried += [
        ("mov ecx, 0x277\n mov eax, 2\n xor edx, edx || wrmsr", Deviates((GP, 0), "checks nothing")),
        ("mov ecx, 0x277\n mov eax, 0x0306\n xor edx, edx || wrmsr", Deviates((GP, 0), "checks nothing")),
        (f"mov ecx, {EFER_MSR}\n mov eax, {EFER | 0x10000}\n xor edx, edx || wrmsr", Deviates((GP, 0), "ignores them")),
        (f"mov ecx, {EFER_MSR}\n mov eax, 1\n xor edx, edx || wrmsr", Deviates((GP, 0), "lets LME go")),
        (f"mov ecx, {TSC_AUX}\n mov eax, 1\n mov edx, 1 || wrmsr", Deviates((GP, 0), "truncates")),
    ]
    attempts.expect(tried, machine)


@pytest.mark.parametrize(
    "msr", [0x0, 0x1, 0x17, 0x3A, 0x12345, 0x40000000, 0xC0000085, 0xC0001FFF, 0xC0010015, 0xFFFFFFFF]
)
def test_unknown_msrs(msr: int) -> None:
    """#GP(0) and one line in the log each."""
    guest = attempts.guest([f"mov ecx, {msr} || rdmsr", f"mov ecx, {msr} || wrmsr"])
    outcome = system_guest.run(guest)
    found = attempts.results(["rdmsr", "wrmsr"], outcome)
    assert [(r.vector, r.trap.error if r.trap else None) for r in found] == [(GP, 0)] * 2
    assert outcome.vm is not None
    log = outcome.vm.take_log()
    assert any(f"read of MSR {msr:#x}" in line for line in log), log
    assert any(f"write of MSR {msr:#x}" in line for line in log), log


def test_control_registers() -> None:
    def cr(n: int, value: int) -> str:
        return f"mov rbx, {value:#x} || mov cr{n}, rbx"

    tried: list[tuple[str, Expectation]] = [
        (cr(0, CR0), None),
        (cr(0, CR0 & ~0x80000000), (GP, 0)),
        (cr(0, CR0 | 1 << 32), (GP, 0)),
        (cr(0, CR0 & ~1), (GP, 0)),
        (cr(0, CR0 | 0x20000000), (GP, 0)),
        (cr(0, CR0 | 0x60000000), None),
        (cr(0, CR0), None),
        (cr(3, 1 << 40), (GP, 0)),
        (cr(3, 1 << 51), (GP, 0)),
        (cr(3, 1 << 63), (GP, 0)),
        (cr(4, CR4 & ~0x20), (GP, 0)),
        (cr(4, CR4 | 1 << 32), (GP, 0)),
        (cr(4, CR4 | 1 << 15), (GP, 0)),
        (cr(4, CR4), None),
        (cr(8, 0xF), None),
        (cr(8, 0x10), (GP, 0)),
        (cr(8, 0), None),
        (cr(2, 0x123456789ABC), None),
        ("mov rbx, cr1", UD),
        ("mov rbx, cr5", UD),
        ("mov cr6, rbx", UD),
        ("mov rbx, cr7", UD),
        (".byte 0x44, 0x0f, 0x20, 0xc9", UD),
        (".byte 0x44, 0x0f, 0x22, 0xf9", UD),
    ]
    attempts.expect(tried, system_guest.run)  # QEMU checks hardly any of these


def test_control_registers_read_back(machine: Run) -> None:
    outcome = machine(
        Guest(
            f"""
            mov rax, 0x123456789abcdef0
            mov cr2, rax
            mov rax, cr2
            mov [DATA], rax
            mov rax, cr0
            mov [DATA + 8], rax
            mov rax, cr4
            mov [DATA + 16], rax
            mov rax, cr3
            mov [DATA + 24], rax
            mov eax, 7
            mov cr8, rax
            mov rax, cr8
            mov [DATA + 32], rax
            mov eax, 0xfff3
            lmsw ax
            mov rax, cr0
            mov [DATA + 40], rax
            mov eax, 0xa
            lmsw ax
            mov rax, cr0
            mov [DATA + 48], rax
            clts
            mov rax, cr0
            mov [DATA + 56], rax
            mov rax, {CR0 & ~0x10:#x}
            mov cr0, rax
            mov rax, cr0
            mov [DATA + 64], rax
            # mod is ignored in MOV to and from control registers
            .byte 0x0f, 0x20, 0x00
            mov [DATA + 72], rax
            mov rax, 0
            mov cr8, rax
            FINISH
            """
        )
    )
    words = [outcome.u64(DATA + 8 * i) for i in range(10)]
    assert words[:5] == [0x123456789ABCDEF0, CR0, CR4, system_guest.TABLES, 7]
    # LMSW: PE (never cleared), MP, EM, TS
    assert words[5] == CR0 & ~0xE | 3
    assert words[6] == CR0 & ~0xE | 0xB
    assert words[7] == CR0 & ~0xE | 3
    assert words[8] | 0x10 == CR0
    assert words[9] == words[8]


def test_et_is_fixed() -> None:
    outcome = system_guest.run(
        Guest(f"mov rax, {CR0 & ~0x10:#x}\n mov cr0, rax\n mov rax, cr0\n mov [DATA], rax\n FINISH")
    )
    assert outcome.u64(DATA) == CR0


def test_efer_read_back(machine: Run) -> None:
    outcome = machine(
        Guest(wrmsr(EFER_MSR, 0xD00) + rdmsr(EFER_MSR, 0) + wrmsr(EFER_MSR, 0x501) + rdmsr(EFER_MSR, 8) + "FINISH")
    )
    assert (outcome.u64(DATA), outcome.u64(DATA + 8)) == (0xD00, 0x501)


# ---- CPUID, TSC -----------------------------------------------------------------------------------------------------------


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    outcome = system_guest.run(
        Guest(
            f"mov eax, {leaf:#x}\n mov ecx, {subleaf}\n cpuid\n mov [DATA], rax\n mov [DATA + 8], rbx\n mov [DATA + 16], rcx\n mov [DATA + 24], rdx\n FINISH"
        )
    )
    a, b, c, d = (outcome.u64(DATA + 8 * i) for i in range(4))
    assert max(a, b, c, d) < 1 << 32, "CPUID clears the upper halves"
    return a, b, c, d


def test_cpuid_profile() -> None:
    """x86-64-v2 without what cannot be replayed or is not there (profile 1)."""
    top, b, c, d = cpuid(0)
    assert b"".join(v.to_bytes(4, "little") for v in (b, d, c)) == b"GenuineIntel"
    assert 0x16 <= top < 0x40
    _, _, c, d = cpuid(1)
    want_c = {0: "SSE3", 9: "SSSE3", 13: "CX16", 19: "SSE4.1", 20: "SSE4.2", 22: "MOVBE", 23: "POPCNT"}
    hidden_c = {
        1: "PCLMULQDQ",
        3: "MONITOR",
        12: "FMA",
        17: "PCID",
        21: "x2APIC",
        25: "AES",
        26: "XSAVE",
        27: "OSXSAVE",
        28: "AVX",
        30: "RDRAND",
        31: "hypervisor",
    }
    want_d = {
        0: "FPU",
        3: "PSE",
        4: "TSC",
        5: "MSR",
        6: "PAE",
        8: "CX8",
        13: "PGE",
        15: "CMOV",
        16: "PAT",
        19: "CLFSH",
        23: "MMX",
        24: "FXSR",
        25: "SSE",
        26: "SSE2",
    }
    hidden_d = {7: "MCE", 9: "APIC", 11: "SEP", 12: "MTRR", 14: "MCA"}
    for want, hidden, value in ((want_c, hidden_c, c), (want_d, hidden_d, d)):
        assert not [name for bit, name in want.items() if not value >> bit & 1]
        assert not [name for bit, name in hidden.items() if value >> bit & 1]
    _, b, c, _ = cpuid(7)
    assert b >> 0 & 1 and b >> 7 & 1 and b >> 20 & 1, "FSGSBASE, SMEP, SMAP"
    assert not b & (1 << 3 | 1 << 5 | 1 << 8 | 1 << 16 | 1 << 18), "BMI1, AVX2, BMI2, AVX512F, RDSEED"
    assert c >> 2 & 1, "UMIP"
    assert cpuid(0x80000000)[0] >= 0x80000008
    _, _, c, d = cpuid(0x80000001)
    assert c & 1 and not c & 1 << 5, "LAHF yes, LZCNT no"
    assert d >> 11 & 1 and d >> 20 & 1 and d >> 26 & 1 and d >> 29 & 1, "SYSCALL, NX, 1 GiB pages, LM"
    assert cpuid(0x80000008)[0] & 0xFFFF == 48 << 8 | 40
    assert cpuid(0x40000000)[1:] != tuple(int.from_bytes(x, "little") for x in (b"KVMK", b"VMKV", b"M\0\0\0"))


def test_cpuid_beyond_the_last_leaf() -> None:
    """Basic leaves beyond the maximum give the highest basic leaf's data (SDM vol. 2, CPUID)."""
    top = cpuid(0)[0]
    assert cpuid(0x3FFFFFFF)[:1] == cpuid(top)[:1]


def test_offered_features_work_and_hidden_ones_do_not() -> None:
    """What CPUID says is what executes."""
    offered = (
        "popcnt eax, ebx",
        "movbe eax, [rsp]",
        "crc32 eax, ebx",
        "ptest xmm0, xmm1",
        "lahf",
        "cmpxchg16b [DATA]",
        "rdfsbase rax",
        "clflush [rsp]",
    )
    hidden = (
        "rdrand eax", "rdseed eax", "xgetbv", "xsave [DATA]", "vaddps xmm0, xmm1, xmm2", "aesenc xmm0, xmm1", "pclmulqdq xmm0, xmm1, 0",
        "andn eax, ebx, ecx", "adcx eax, ebx", "sha1msg1 xmm0, xmm1", "monitor", "mwait", "rdpid rax", "invpcid rax, [rsp]", "vmcall",
        "clflushopt [rsp]", "clwb [rsp]", "xbegin .", "encls", "insertq xmm0, xmm1", "extrq xmm0, xmm1", "pavgusb mm0, mm1", "femms", "clzero", "wrussq [rsp], rax",
        "serialize", "rdpkru", "vmload", "skinit", "stgi", "movdiri [rsp], eax", "cldemote [rsp]" if False else "enqcmd rax, [rsp]",
    )  # fmt: skip
    attempts.expect([(t, None) for t in offered] + [(t, UD) for t in hidden], system_guest.run, cr4=CR4 | CR4_FSGSBASE)


def test_hidden_bit_counting_prefixes_are_ignored() -> None:
    """F3 before BSF and BSR is LZCNT/TZCNT only where CPUID offers them: here it is nothing."""
    outcome = system_guest.run(
        Guest(
            """
            mov eax, 0x00100000
            .byte 0xf3, 0x0f, 0xbd, 0xd8        # bsr ebx, eax
            .byte 0xf3, 0x0f, 0xbc, 0xc8        # bsf ecx, eax
            mov edx, 7
            xor eax, eax
            .byte 0xf3, 0x0f, 0xbc, 0xd0        # bsf edx, eax: unchanged
            FINISH
            """
        )
    )
    assert (outcome.gpr["rbx"], outcome.gpr["rcx"], outcome.gpr["rdx"]) == (20, 20, 7)


def test_nops_of_absent_extensions() -> None:
    """Encodings that are NOPs where CET, MPX or prefetch hints are absent."""
    tried = [(t, None) for t in ("endbr64", "rdsspq rax", ".byte 0xf3, 0x0f, 0x1e, 0xc8", "bndmov bnd0, bnd1" if False else "nop dword ptr [rax]",
                                 ".byte 0x0f, 0x1a, 0xc0", ".byte 0x0f, 0x1b, 0xc0", ".byte 0x0f, 0x1c, 0xc0", ".byte 0x0f, 0x0d, 0x08")]  # fmt: skip
    attempts.expect(tried, system_guest.run)


def test_tsc_is_virtual_time() -> None:
    """RDTSC counts tsc_khz per virtual millisecond, exactly, and WRMSR to it moves it."""
    vm = system_guest.start(Guest("rdtsc\n nop\n" * 4 + "FINISH"))
    for i in range(4):
        before = vm.vns
        vm.step()
        registers = vm.registers()
        tsc = registers.rdx << 32 | registers.rax
        assert tsc == before * vm.config.cpu.tsc_khz // 1_000_000, i
        vm.step()
    assert vm.virtual_tsc() == vm.vns * vm.config.cpu.tsc_khz // 1_000_000
    outcome = system_guest.run(
        Guest(wrmsr(0x10, 0x1234567800000000) + "rdtsc\n mov [DATA], eax\n mov [DATA + 4], edx\n FINISH")
    )
    assert 0x1234567800000000 < outcome.u64(DATA) < 0x1234567800000100


def test_debug_registers_refuse(machine: Run) -> None:
    tried: list[tuple[str, Expectation]] = [
        ("mov rax, 1 << 32 || mov dr7, rax", Deviates((GP, 0), "truncates")),
        ("mov rax, 1 << 32 || mov dr6, rax", Deviates((GP, 0), "truncates")),
        ("xor eax, eax || mov dr4, rax", None),
        ("mov rbx, dr5", None),
        ("mov rbx, cr4\n or ebx, 8\n mov cr4, rbx || mov rbx, dr4", UD),
        ("mov dr5, rbx", UD),
        (".byte 0x44, 0x0f, 0x21, 0xc0", UD),
        ("mov rbx, 0x123456789abcdef0 || mov dr0, rbx", None),
    ]
    attempts.expect(tried, machine)


def test_registers_value_is_complete() -> None:
    """Registers written through the interface come back, for every field that a guest may set."""
    vm = system_guest.start(Guest("FINISH"))
    registers = vm.registers()
    changed = registers.replace(
        rax=1, r15=0xFFFFFFFFFFFFFFFF, rflags=0xCD7, xmm=tuple((i << 64) + i for i in range(16)), st=tuple(0x3FFF << 64 | 1 << 63 for _ in range(8)),
        fsw=0x1800, ftw=0, fcw=0x27F, mxcsr=0x9FC0, kernel_gs_base=0x1234, lstar=0xFFFF800000000000, tsc_offset=-5, cr2=0x55, cr8=3, dr=(1, 2, 3, 4, 0, 0, 0xFFFF0FF0, 0x400),
    )  # fmt: skip
    vm.set_registers(changed)
    after = vm.registers()
    for field in dataclasses.fields(changed):
        if field.name != "dr":
            assert getattr(after, field.name) == getattr(changed, field.name), field.name
    assert after.dr[:4] == (1, 2, 3, 4)
