"""Breakpoints, single-stepping and the debug registers (SDM vol. 3, chapter 17.2 and 17.3; 6.8.3).

Each guest runs in one go, instruction by instruction with a snapshot restored in between, and under QEMU. What QEMU 7.2
does otherwise than the SDM says is named where it is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import attempts
import pytest
import qemu
import system_guest
from flat_guests import assemble
from system_guest import (
    CR4,
    CR4_DE,
    DATA,
    EQUATES,
    HANDLER,
    RESUME,
    RETURN,
    RETURN_RF,
    SKIP,
    UCODE,
    USTACK,
    VARS,
    Guest,
    Outcome,
    Trap,
    gate,
    stub,
)  # fmt: skip

from chaoscontrol.machine import StopKind

Run = Callable[[Guest], Outcome]
DE, DB, BP, UD, PF = 0, 1, 3, 6, 14
RF, IF, TF = 0x10000, 0x200, 0x100
BD, BS = 1 << 13, 1 << 14
EXECUTE, WRITE, IO, ACCESS = range(4)
LE, GE, GD = 1 << 8, 1 << 9, 1 << 13
HOLE = 0x4000000
"""Nothing is mapped there."""

MACROS = """
    .macro WATCH n, address
        push rax
        lea rax, [\\address]
        mov dr\\n, rax
        pop rax
    .endm
    .macro ARM value
        push rax
        mov eax, \\value
        mov dr7, rax
        pop rax
    .endm
    .macro STEP
        pushfq
        or dword ptr [rsp], 0x100
        popfq
    .endm
    .macro STEP_END
        pushfq
        and dword ptr [rsp], ~0x100
        popfq
    .endm
"""


def dr7(*breakpoints: tuple[int, int, int], bits: int = LE | GE) -> int:
    """DR7 with L enabled for each (register, kind, length)."""
    for n, kind, length in breakpoints:
        bits |= 1 << 2 * n | kind << (16 + 4 * n) | {1: 0, 2: 1, 8: 2, 4: 3}[length] << (18 + 4 * n)
    return bits


def stepped(guest: Guest) -> Outcome:
    """The guest in steps of one instruction; every other one on a machine restored from a snapshot."""
    vm = system_guest.start(guest)
    for i in range(40_000):
        stop = vm.run(instret=i + 1)
        if stop.kind is StopKind.HALTED:
            return system_guest.outcome(vm)
        if i & 1:
            snapshot = vm.snapshot()
            vm.run(instret=i + 3)
            vm.restore(snapshot)
    raise AssertionError(f"no end; rip {vm.registers().rip:#x}")


@pytest.fixture(params=["soft", "stepped", "qemu"])
def machine(request: pytest.FixtureRequest) -> Run:
    runs: dict[str, Run] = {"soft": system_guest.run, "stepped": stepped, "qemu": qemu.run}
    return runs[request.param]


def labels(text: str, base: int) -> dict[int, str]:
    """Address of every label of `text`, which is loaded at `base`; numeric and macro labels are left out."""
    names = [line.strip()[:-1] for line in text.splitlines() if line.strip().endswith(":")]
    names = [name for name in names if name.isidentifier()]
    table = "\n".join(f".long {name} - first_" for name in names)
    code = assemble(f"first_:\n{EQUATES}{MACROS}{text}\n{table}")
    offsets = [int.from_bytes(code[len(code) - 4 * (len(names) - i) :][:4], "little") for i in range(len(names))]
    return {base + offset: name for name, offset in zip(names, offsets, strict=True)}


class Story:
    """A guest, and the traps of its run by the names of the places where they happened."""

    def __init__(self, run: Run, kernel: str, user: str = "", **options: object) -> None:
        policies: dict[int, int] = {DB: RETURN, **options.pop("policies", {})}  # type: ignore[dict-item]
        guest = Guest(MACROS + kernel, MACROS + user if user else "", policies=policies, **options)  # type: ignore[arg-type]
        self.places = labels(kernel, system_guest.CODE) | (labels(user, UCODE) if user else {})
        self.outcome = run(guest)

    def place(self, trap: Trap) -> str:
        return self.places.get(trap.rip, hex(trap.rip))

    @property
    def traps(self) -> list[tuple[int, str]]:
        return [(t.vector, self.place(t)) for t in self.outcome.traps]

    @property
    def debug(self) -> list[tuple[str, int]]:
        """Where #DB was raised, and the condition bits of DR6."""
        return [(self.place(t), t.dr6 & 0xE00F) for t in self.outcome.traps if t.vector == DB]

    def rf(self, vector: int = DB) -> list[bool]:
        """RF in the pushed images."""
        return [bool(t.rflags & RF) for t in self.outcome.traps if t.vector == vector]


# ---- instruction breakpoints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(4))
@pytest.mark.parametrize("enable", [1, 2, 3])
def test_an_instruction_breakpoint_is_a_fault(machine: Run, n: int, enable: int) -> None:
    """Before the instruction; L or G will do; the handler sets RF, and the instruction is executed once."""
    story = Story(
        machine,
        f"WATCH {n}, rip + at\n ARM {LE | GE | enable << 2 * n:#x}\n nop\nat:\n inc ebx\nnext:\n ARM 0\n FINISH",
        policies={DB: RETURN_RF},
    )
    assert story.debug == [("at", 1 << n)]
    assert story.outcome.gpr["rbx"] == 1
    assert story.rf() == [False]


def test_two_registers_for_one_instruction(machine: Run) -> None:
    kernel = f"WATCH 0, rip + at\n WATCH 2, rip + at\n WATCH 3, rip + next\n ARM {dr7((0, EXECUTE, 1), (2, EXECUTE, 1), (3, EXECUTE, 1))}\nat:\n nop\nnext:\n FINISH"
    story = Story(machine, kernel, policies={DB: RETURN_RF})
    assert story.debug == [("at", 5), ("next", 8)]


def test_without_an_enable_bit_nothing_happens(machine: Run) -> None:
    story = Story(
        machine, f"WATCH 0, rip + at\n WATCH 1, DATA\n ARM {LE | GE | WRITE << 20:#x}\nat:\n mov [DATA], al\n FINISH"
    )
    assert story.traps == []


def test_rf_is_good_for_one_instruction(machine: Run) -> None:
    """A loop meets the breakpoint at every turn."""
    kernel = f"WATCH 0, rip + at\n mov ecx, 3\n ARM {dr7((0, EXECUTE, 1))}\nat:\n inc ebx\nagain:\n loop at\n FINISH"
    story = Story(machine, kernel, policies={DB: RETURN_RF})
    assert story.debug == [("at", 1)] * 3
    assert story.outcome.gpr["rbx"] == 3


def test_rf_of_faults_and_of_software_interrupts(machine: Run) -> None:
    """A fault's image has RF = 1, so its return skips a breakpoint; INT n and INT3 push 0, even where RF was 1."""
    kernel = f"""
        mov qword ptr [skip], 2
        WATCH 0, rip + at
        WATCH 1, rip + behind
        WATCH 2, rip + trap
        WATCH 3, rip + after
        ARM {dr7(*((n, EXECUTE, 1) for n in range(4)))}
    at:
        ud2
    behind:
        nop
    trap:
        int 0x55
    after:
        nop
        FINISH
    """
    story = Story(machine, kernel, policies={DB: RETURN_RF, UD: SKIP, 0x55: RETURN})
    if machine is qemu.run:
        assert story.traps[0] == (DB, "at")  # QEMU pushes RF = 0 in faults
        return
    assert story.traps == [(DB, "at"), (UD, "at"), (DB, "trap"), (0x55, "after"), (DB, "after")]
    assert story.rf(UD) == [True]
    assert story.rf(0x55) == [False]


def test_a_breakpoint_comes_before_the_fetch_fault(machine: Run) -> None:
    kernel = f"""
        WATCH 1, {HOLE}
        ARM {dr7((1, EXECUTE, 1))}
        RESUME_AT done
        mov eax, {HOLE}
        jmp rax
    done:
        FINISH
    """
    story = Story(machine, kernel, policies={DB: RETURN_RF, PF: RESUME})
    assert story.traps == [(DB, hex(HOLE)), (PF, hex(HOLE))]
    assert story.outcome.traps[1].cr2 == HOLE
    assert story.outcome.traps[0].cr2 == 0 or machine is qemu.run  # QEMU has looked already


def test_a_breakpoint_in_an_instruction_is_none(machine: Run) -> None:
    """Only the address of the first byte counts, prefixes included."""
    kernel = f"WATCH 0, rip + at + 1\n WATCH 1, rip + two + 1\n ARM {dr7((0, EXECUTE, 1), (1, EXECUTE, 1))}\nat:\n mov eax, 0x12345678\ntwo:\n .byte 0x66, 0x90\n FINISH"
    assert Story(machine, kernel).traps == []


def test_user_code_with_breakpoints(machine: Run) -> None:
    """At CPL 3: instruction and data breakpoints, taken on the stack of CPL 0; kernel accesses count as well.

    The handler of the data trap at "read" returns with RF = 1 and so skips the instruction breakpoint there.
    """
    user = "at:\n inc ebx\n mov dword ptr [UDATA + 4], 7\nwritten:\n mov eax, [UDATA + 8]\nread:\n int 0x81\nback:"
    places = {name: address for address, name in labels(user, UCODE).items()}
    kernel = f"""
        WATCH 0, {places["at"]}
        WATCH 1, UDATA + 4
        WATCH 2, UDATA + 8
        WATCH 3, {places["read"]}
        ARM {dr7((0, EXECUTE, 1), (1, WRITE, 4), (2, ACCESS, 8), (3, EXECUTE, 1))}
        RESUME_AT done
        TO_USER
    done:
        mov eax, [UDATA + 4]
        mov [UDATA + 4], eax
    stored:
        FINISH
    """
    story = Story(machine, kernel, user, policies={DB: RETURN_RF, 0x81: RESUME})
    read = 4 | 8 if machine is qemu.run else 4  # QEMU adds the breakpoint of the next instruction
    assert story.debug == [("at", 1), ("written", 2), ("read", read), ("stored", 2)]
    assert [t.cs for t in story.outcome.traps if t.vector == DB] == [0x33] * 3 + [0x10]
    assert story.outcome.gpr["rbx"] == 1


# ---- data breakpoints ----------------------------------------------------------------------------------------------

DR0_AT = DATA + 0x100


def data_attempts() -> list[tuple[str, bool, bool]]:
    """Accesses around a watched range, whether they meet it, and whether DR0 is aligned to its length."""
    found: list[tuple[str, bool, bool]] = []
    registers = {1: "al", 2: "ax", 4: "eax", 8: "rax"}
    for length in (1, 2, 4, 8):
        for skew in sorted({0, length - 1}):  # the low bits of DR0 that the length covers are ignored
            arm = f"mov eax, {DR0_AT + skew}\n mov dr0, rax\n mov eax, {{}}\n mov dr7, rax"
            write, access = (arm.format(dr7((0, kind, length))) for kind in (WRITE, ACCESS))
            for size, name in registers.items():
                for offset in sorted({-size, 1 - size, 0, length - 1, length}):
                    meets = -size < offset < length
                    store, load = f"mov [{DR0_AT + offset}], {name}", f"mov {name}, [{DR0_AT + offset}]"
                    found.append((f"{write} || {store}", meets, not skew))
                    found.append((f"{write} || {load}", False, not skew))
                    if not skew and size in (1, 4):
                        found.append((f"{access} || {load}", meets, True))
                        found.append((f"{access} || {store}", meets, True))
    return found


def test_lengths_and_alignment(machine: Run) -> None:
    tried = data_attempts()
    texts = [text for text, _, _ in tried]
    found = attempts.results(texts, machine(attempts.guest(texts, prologue="xor eax, eax")))
    wrong = [
        str(result)
        for result, (_, meets, aligned) in zip(found, tried, strict=True)
        if ((result.vector == DB) != meets or len(result.traps) > 1)
        and not (machine is qemu.run and not (aligned and meets))  # QEMU does not align, and reports neighbours
    ]
    assert not wrong, "\n".join(wrong)
    assert len(tried) > 200


DATA_INSTRUCTIONS = {
    "mov [rbx], eax": "w", "mov eax, [rbx]": "r", "add [rbx], eax": "w", "add eax, [rbx]": "r", "cmp [rbx], eax": "r", "xchg [rbx], eax": "w",
    "lock xadd [rbx], eax": "w", "lock cmpxchg [rbx], ecx": "w", "inc byte ptr [rbx]": "w", "push qword ptr [rbx]": "r", "setc [rbx]": "w",
    "movaps xmm0, [rbx - 8]": "r", "movups [rbx - 11], xmm0": "w", "paddd xmm1, [rbx - 8]": "r", "movq mm0, [rbx]": "r", "movnti [rbx], ecx": "w",
    "fld qword ptr [rbx]": "r", "fst dword ptr [rbx]": "w", "fxsave [rbx - 40]": "w", "fxrstor [rbx - 40]": "r", "fnstcw [rbx]": "w",
    "fld dword ptr [rbx]": "r", "fld tbyte ptr [rbx]": "r", "fild word ptr [rbx]": "r", "fild qword ptr [rbx]": "r", "fbld tbyte ptr [rbx]": "r",
    "fadd dword ptr [rbx]": "r", "fmul qword ptr [rbx]": "r", "fiadd word ptr [rbx]": "r", "fisub dword ptr [rbx]": "r", "fcom qword ptr [rbx]": "r",
    "ficomp dword ptr [rbx]": "r", "fldenv [rbx]": "r", "fnstenv [rbx]": "w", "frstor [rbx]": "r", "fnsave [rbx]": "w", "fldcw [rbx]": "r",
    "fistp dword ptr [rbx]": "w", "fstp tbyte ptr [rbx]": "w", "fnstsw [rbx]": "w", "fbstp tbyte ptr [rbx]": "w", "paddb mm1, [rbx]": "r",
    "movd mm2, [rbx]": "r", "movntq [rbx], mm1": "w", "pinsrw mm1, [rbx], 2": "r", "cvtpi2ps xmm1, [rbx]": "r", "cvttps2pi mm1, [rbx]": "r",
    "addss xmm1, [rbx]": "r", "addpd xmm1, [rbx - 8]": "r", "sqrtsd xmm1, [rbx]": "r", "cvtsi2sd xmm1, dword ptr [rbx]": "r",
    "cvttsd2si eax, [rbx]": "r", "cvtps2pd xmm1, [rbx]": "r", "ucomiss xmm1, [rbx]": "r", "cmpsd xmm1, [rbx], 1": "r", "rsqrtps xmm1, [rbx - 8]": "r",
    "pinsrd xmm1, [rbx], 1": "r", "movhps xmm1, [rbx]": "r", "movlpd [rbx], xmm1": "w", "movd [rbx], xmm1": "w", "shufps xmm1, [rbx - 8], 27": "r",
    "pcmpistri xmm1, [rbx - 8], 12": "r", "dpps xmm1, [rbx - 8], 255": "r", "roundss xmm1, [rbx], 0": "r", "ptest xmm1, [rbx - 8]": "r",
    "pmovzxbw xmm1, [rbx]": "r", "lddqu xmm1, [rbx]": "r", "movntdqa xmm1, [rbx - 8]": "r", "pshufb xmm1, [rbx - 8]": "r", "haddps xmm1, [rbx - 8]": "r",
    "bts dword ptr [rbx], 3": "w", "bt dword ptr [rbx], 3": "r", "movzx eax, byte ptr [rbx]": "r", "cmovc eax, [rbx]": "r", "cmovnc eax, [rbx]": "r",
    "shl dword ptr [rbx], 1": "w", "not dword ptr [rbx]": "w", "mul dword ptr [rbx]": "r", "imul eax, [rbx], 3": "r", "bsf eax, [rbx]": "r",
    "mov ecx, [rbx]": "r", "btc [rbx], ecx": "w", "shld [rbx], eax, 3": "w", "adc byte ptr [rbx], 1": "w", "test byte ptr [rbx], 1": "r",
    "sgdt [rbx]": "w", "stosd": "w", "lodsd": "r", "scasd": "r", "movsd": "w", "cmpsd": "r", "xlatb": "r", "stmxcsr [rbx]": "w",
    "popcnt eax, [rbx]": "r", "crc32 eax, byte ptr [rbx]": "r", "movbe eax, [rbx]": "r", "mov es, [rbx]": "r", "pop qword ptr [rbx]": "w",
    "mov [rbx], ds": "w", "str [rbx]": "w", "verr [rbx]": "r", "lar eax, [rbx]": "r", "lmsw [rbx]": "r", "leave": "r",
    "cmpxchg8b [rbx]": "w", "cmpxchg16b [rbx - 8]": "w", "pextrb [rbx], xmm0, 0": "w", "lea eax, [rbx]": "", "prefetcht0 [rbx]": "",
    "nop dword ptr [rbx]": "",
}  # fmt: skip
"""What each does to the watched word: reads it, writes it (after a read perhaps), or nothing."""


def test_every_kind_of_access_is_seen_after_its_instruction(machine: Run) -> None:
    """A trap, with the instruction done and the next one not begun."""
    at = DATA + 0x208
    setup = f"""
        xor eax, eax
        mov dr7, rax
        mov ebx, {at}
        lea edi, [rbx - 48]
        mov ecx, 14
        rep stosq
        fninit
        fldz
        mov esi, ebx
        mov edi, ebx
        mov ebp, ebx
        mov eax, {{}}
        mov dr7, rax
        mov eax, 0
        clc"""
    texts = [f"{setup.format(dr7((2, kind, 4)))} || {i}" for i in DATA_INSTRUCTIONS for kind in (WRITE, ACCESS)]
    prologue = f"clts\n mov eax, {at}\n mov dr2, rax"
    found = attempts.results(texts, machine(attempts.guest(texts, prologue=prologue)))
    wrong: list[str] = []
    for i, (text, does) in enumerate(DATA_INSTRUCTIONS.items()):
        write, access = found[2 * i], found[2 * i + 1]
        length = len(assemble(text))
        if (write.vector == DB) != (does == "w") or (access.vector == DB) != (does != ""):
            wrong.append(f"{text}: {write.vector} {access.vector}, expected {does!r}")
        if any(r.trap and (r.offset != length or r.trap.dr6 & 0xF != 4 or r.trap.rflags & RF) for r in (write, access)):
            wrong.append(f"{text}: at {write.offset} {access.offset}: not behind the instruction, or other bits")
    assert not wrong, "\n".join(wrong)


def test_control_transfers_meet_their_stack(machine: Run) -> None:
    """CALL, RET, PUSH, indirect jumps through memory: the trap is at the target."""
    kernel = f"""
        mov rsp, {DATA + 0x1000}
        WATCH 0, DATA + 0xff8
        WATCH 1, DATA
        lea rax, [rip + jumped]
        mov [DATA], rax
        mov eax, {dr7((0, ACCESS, 8), (1, ACCESS, 8))}
        mov dr7, rax
        call function
    returned:
        jmp qword ptr [DATA]
    jumped:
        push rax
    pushed:
        pop rax
    popped:
        FINISH
    function:
        ret
    """
    gates = {DB: gate(stub(DB), ist=1)}
    story = Story(machine, kernel, gates=gates)
    wanted = [("function", 1), ("returned", 1), ("jumped", 2), ("pushed", 1), ("popped", 1)]
    if machine is qemu.run:  # which does not forget earlier hits
        assert [place for place, _ in story.debug] == [place for place, _ in wanted]
    else:
        assert story.debug == wanted


def test_page_crossing_accesses(machine: Run) -> None:
    """The watched word is the last or the first of a page; the access spans both."""
    at = DATA + 0x1000
    kernel = f"""
        WATCH 0, {at - 4}
        WATCH 1, {at}
        ARM {dr7((0, WRITE, 4), (1, ACCESS, 2))}
        mov qword ptr [{at - 6}], 1
    both:
        mov word ptr [{at - 1}], 1
    across:
        mov rax, [{at - 7}]
    read:
        mov dword ptr [{at - 8}], 1
        mov dword ptr [{at + 2}], 1
        movups xmm0, [{at - 15}]
    last:
        FINISH
    """
    story = Story(machine, f"clts\n{kernel}")
    wanted = [("both", 3), ("across", 3), ("read", 2), ("last", 2)]
    if machine is qemu.run:  # which stops at the first page, and takes neighbours along
        assert {place for place, _ in wanted} <= {place for place, _ in story.debug}
    else:
        assert story.debug == wanted


def test_repeated_string_instructions_stop_after_the_iteration(machine: Run) -> None:
    """RIP at the instruction while iterations are left, RF = 1 then; behind it after the last one, RF = 0."""
    kernel = f"""
        WATCH 0, DATA + 3
        WATCH 1, DATA + 7
        WATCH 2, DATA + 0x102
        ARM {dr7((0, WRITE, 1), (1, ACCESS, 1), (2, ACCESS, 1))}
        mov edi, DATA
        mov ecx, 8
    fill:
        rep stosb
    filled:
        mov esi, DATA
        mov edi, DATA + 0x100
        mov ecx, 8
    move:
        rep movsb
    moved:
        mov edi, DATA + 0x100
        mov ecx, 3
    scan:
        repe scasb
    scanned:
        FINISH
    """
    story = Story(machine, kernel)
    wanted = [("fill", 1), ("filled", 2), ("move", 4), ("moved", 2), ("scanned", 4)]
    if machine is qemu.run:  # RIP stays at the instruction even after the last iteration, and RF is 0
        assert [bits for _, bits in story.debug] == [bits for _, bits in wanted]
    else:
        assert story.debug == wanted
        assert story.rf() == [True, False, True, False, False]


def test_an_instruction_breakpoint_of_a_rep_fires_once(machine: Run) -> None:
    """Not again between iterations, though each of them may trap."""
    kernel = f"WATCH 0, rip + at\n WATCH 1, DATA\n mov edi, DATA\n mov ecx, 8\n ARM {dr7((0, EXECUTE, 1), (1, WRITE, 4))}\nat:\n rep stosb\nnext:\n FINISH"
    story = Story(machine, kernel, policies={DB: RETURN_RF})
    assert story.outcome.gpr["rcx"] == 0
    if machine is qemu.run:  # where it fires again at each iteration that it sees
        assert story.debug[0] == ("at", 1)
    else:
        assert story.debug == [("at", 1)] + [("at", 2)] * 4
        assert story.rf() == [False, True, True, True, True]


def test_the_top_of_the_address_space(machine: Run) -> None:
    tables = system_guest.PageTables()
    tables.map(0xFFFFFFFFFFFFF000, system_guest.PAGES | 0x3)
    kernel = f"mov rax, -8\n mov dr0, rax\n ARM {dr7((0, ACCESS, 8))}\n mov eax, [rax]\nlow:\n mov rax, -1\n mov [rax], al\nhigh:\n mov al, [-9]\n FINISH"
    assert Story(machine, kernel, tables=tables).debug == [("low", 1), ("high", 1)]


def test_a_fault_discards_what_the_instruction_met() -> None:
    """The read meets the breakpoint, then the write faults: #PF alone, with its address; #DB leaves CR2 alone.

    QEMU reports the read in the page fault's handler.
    """
    kernel = f"""
        WATCH 0, DATA
        ARM {dr7((0, ACCESS, 8))}
        RESUME_AT one
        mov esi, DATA
        mov edi, {HOLE}
    at:
        movsb
    one:
        nop
        mov al, [DATA]
    read:
        RESUME_AT two
        push qword ptr [DATA]
    pushed:
        mov rsp, {HOLE}
    push:
        push qword ptr [DATA]
    two:
        FINISH
    """
    gates = {PF: gate(stub(PF), ist=1), DB: gate(stub(DB), ist=1)}
    for run in (system_guest.run, stepped):
        story = Story(run, kernel, policies={PF: RESUME}, gates=gates)
        assert story.traps == [(PF, "at"), (DB, "read"), (DB, "pushed"), (PF, "push")]
        assert [t.cr2 for t in story.outcome.traps] == [HOLE, HOLE, HOLE, HOLE - 8]


# ---- MOV SS --------------------------------------------------------------------------------------------------------


def test_mov_ss_hides_an_instruction_breakpoint(machine: Run) -> None:
    """The instruction behind MOV SS is executed as if RF were 1. STI hides nothing."""
    kernel = f"""
        WATCH 0, rip + at
        WATCH 1, rip + next
        WATCH 2, rip + last
        ARM {dr7((0, EXECUTE, 1), (1, EXECUTE, 1), (2, EXECUTE, 1))}
        mov eax, 0x18
        mov ss, eax
    at:
        nop
    next:
        sti
    last:
        cli
        FINISH
    """
    story = Story(machine, kernel, policies={DB: RETURN_RF})
    wanted = [("next", 2), ("last", 4)]
    if machine is qemu.run:
        wanted.insert(0, ("at", 1))  # QEMU's shadow is for interrupts and single-stepping only
    assert story.debug == wanted


@pytest.mark.parametrize(
    ("behind", "where"),
    [("nop", "next"), ("int 0x55", "handler"), ("mov ss, eax\n nop", "next"), ("syscall", "entry"), ("cli", "next")],
)
def test_mov_ss_delays_its_own_data_breakpoint(behind: str, where: str) -> None:
    """To the end of the next instruction: after INT n and SYSCALL that is in the handler. QEMU does not delay it."""
    kernel = f"""
        mov ecx, 0xc0000082
        lea rax, [rip + entry]
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000081
        mov edx, 0x10
        xor eax, eax
        wrmsr
        mov eax, 0x18
        mov [DATA], eax
        WATCH 3, DATA
        ARM {dr7((3, ACCESS, 2))}
        mov ss, [DATA]
        {behind}
    next:
        FINISH
    entry:
        FINISH
    """
    for run in (system_guest.run, stepped):
        story = Story(run, kernel, policies={0x55: RETURN})
        place = hex(stub(0x55)) if where == "handler" else where
        assert story.debug[0] == (place, 8)
        assert len(story.debug) == 1
        assert story.traps[-1] == ((0x55, "next") if where == "handler" else (DB, where))


def test_mov_ss_and_a_fault_behind_it() -> None:
    """The breakpoint that MOV SS met is not lost: it is reported in the fault's handler."""
    kernel = f"mov eax, 0x18\n mov [DATA], eax\n mov qword ptr [skip], 2\n WATCH 0, DATA\n ARM {dr7((0, ACCESS, 2))}\n mov ss, [DATA]\nat:\n ud2\n FINISH"
    for run in (system_guest.run, stepped):
        story = Story(run, kernel, policies={UD: SKIP})
        assert story.traps == [(DB, hex(stub(UD))), (UD, "at")]


def test_single_stepping_mov_ss(machine: Run) -> None:
    kernel = "mov eax, 0x18\n STEP\n nop\none:\n mov ss, eax\n nop\ntwo:\n nop\nthree:\n STEP_END\nend:\n FINISH"
    story = Story(machine, kernel)
    assert [place for place, _ in story.debug][:3] == ["one", "two", "three"]
    assert story.debug[-1] == ("end", BS)


# ---- single-stepping -----------------------------------------------------------------------------------------------


def test_single_stepping(machine: Run) -> None:
    """The trap follows each instruction that began with TF = 1: not the POPF that sets it, but the one that clears it."""
    story = Story(
        machine,
        "STEP\nzero:\n nop\none:\n xor eax, eax\ntwo:\n jz four\nthree:\n nop\nfour:\n STEP_END\nend:\n nop\n FINISH",
    )
    places = [place for place, _ in story.debug]
    assert places[:3] == ["one", "two", "four"] and places[-1] == "end" and len(places) == 6
    assert {bits for _, bits in story.debug} == {BS}
    images = [bool(t.rflags & TF) for t in story.outcome.traps]
    assert images == [True] * 5 + [False]
    assert not any(t.inside & TF for t in story.outcome.traps)


def test_single_stepping_a_rep(machine: Run) -> None:
    """A trap after every iteration, with RF = 1 in the image except after the last."""
    story = Story(machine, "mov edi, DATA\n mov ecx, 3\n STEP\nat:\n rep stosb\nnext:\n STEP_END\nend:\n FINISH")
    assert [place for place, _ in story.debug][:3] == ["at", "at", "next"]
    if machine is not qemu.run:
        assert story.rf()[:3] == [True, True, False]


def test_rep_with_no_iterations_is_one_step(machine: Run) -> None:
    story = Story(machine, "xor ecx, ecx\n STEP\n rep stosb\nnext:\n STEP_END\n FINISH")
    assert story.debug[0] == ("next", BS)
    assert story.rf()[0] is False


@pytest.mark.parametrize(("instruction", "vector"), [("int 0x55", 0x55), ("int3", BP)])
def test_stepping_over_a_software_interrupt(machine: Run, instruction: str, vector: int) -> None:
    """The interrupt clears TF before a trap could be taken; its image has TF = 1, so the next trap is one further."""
    story = Story(machine, f"STEP\n {instruction}\nback:\n nop\nnext:\n STEP_END\n FINISH", policies={vector: RETURN})
    assert story.traps[:2] == [(vector, "back"), (DB, "next")]
    assert story.outcome.traps[0].rflags & TF
    assert not story.outcome.traps[0].inside & TF


def test_int1() -> None:
    """A #DB trap that leaves DR6 alone, pushes RF = 0, needs no DPL. QEMU takes it for a stop of its debugger."""
    for run in (system_guest.run, stepped):
        story = Story(
            run,
            "STEP\n nop\none:\n .byte 0xf1\ntwo:\n STEP_END\nend:\n mov eax, 0xffff0ff0\n mov dr6, rax\n .byte 0xf1\nlast:\n FINISH",
        )
        assert story.debug[:2] == [("one", BS), ("two", BS)]
        assert story.debug[-1] == ("last", 0)
        assert story.rf()[-1] is False
        assert not story.outcome.traps[1].inside & TF


def test_stepping_iretq(machine: Run) -> None:
    """IRETQ that loads TF is not followed by a trap, the instruction at its target is."""
    kernel = f"""
        mov rbx, rsp
        push 0x18
        push rbx
        push {0x2 | TF}
        push 0x10
        lea rax, [rip + target]
        push rax
        iretq
    target:
        nop
    next:
        push 0x18
        push rbx
        push 2
        push 0x10
        lea rax, [rip + end]
        push rax
        iretq
    end:
        nop
        FINISH
    """
    story = Story(machine, kernel)
    assert story.debug[0] == ("next", BS)
    assert story.debug[-1] == ("end", BS)
    assert not story.outcome.traps[-1].rflags & TF


SYSCALL = """
        mov ecx, 0xc0000084
        mov eax, {mask}
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000082
        lea rax, [rip + entry]
        wrmsr
        mov ecx, 0xc0000081
        mov edx, 0x230010
        xor eax, eax
        wrmsr
        RESUME_AT done
        TO_USER UCODE, 0x302
    entry:
        nop
    inside:
        {entry}
        rex.w sysret
    done:
        FINISH
"""


def test_stepping_a_syscall_that_masks_tf(machine: Run) -> None:
    """No trap in the kernel; SYSRET loads TF and traps at once, before the next user instruction."""
    user = "nop\none:\n syscall\nback:\n nop\nnext:\n int 0x81"
    story = Story(machine, SYSCALL.format(mask=TF, entry=""), user, policies={0x81: RESUME})
    assert story.traps == [(DB, "one"), (DB, "back"), (DB, "next"), (0x81, hex(story.outcome.traps[-1].rip))]
    assert [t.cs for t in story.outcome.traps] == [0x33] * 4


def test_stepping_a_syscall_that_keeps_tf(machine: Run) -> None:
    """The trap after SYSCALL is at the kernel's first instruction, at CPL 0."""
    user = "nop\none:\n syscall\nback:\n int 0x81"
    story = Story(machine, SYSCALL.format(mask=0, entry="STEP_END"), user, policies={0x81: RESUME})
    assert [place for place, _ in story.debug][:3] == ["one", "entry", "inside"]
    assert [t.cs for t in story.outcome.traps][:3] == [0x33, 0x10, 0x10]
    assert story.debug[-1] == ("back", BS)


def test_stepping_hlt() -> None:
    """The trap ends the halt. QEMU's HLT leaves its loop before the trap."""
    for run in (system_guest.run, stepped):
        story = Story(run, "STEP\n hlt\nnext:\n STEP_END\nend:\n FINISH")
        assert story.debug[0] == ("next", BS)
        assert story.debug[-1] == ("end", BS)


def test_a_fault_under_tf_is_no_step(machine: Run) -> None:
    kernel = "mov qword ptr [skip], 2\n STEP\n nop\nat:\n ud2\nnext:\n nop\nlast:\n STEP_END\n FINISH"
    story = Story(machine, kernel, policies={UD: SKIP})
    assert story.traps[:3] == [(DB, "at"), (UD, "at"), (DB, "last")]


def test_stepping_and_breakpoints_together() -> None:
    """One #DB for the step and the data breakpoint; the breakpoint of the next instruction is a fault of its own.

    QEMU raises a second #DB at the handler's first instruction.
    """
    kernel = f"""
        WATCH 0, DATA
        WATCH 1, rip + next
        ARM {dr7((0, WRITE, 8), (1, EXECUTE, 1))}
        STEP
        mov [DATA], rax
    next:
        nop
    last:
        STEP_END
        FINISH
    """
    resumes_breakpoints = assemble(f"""
        push rax
        mov rax, dr6
        test al, 2
        jz trap
        or dword ptr [rsp + 24], {RF}
    trap:
        mov eax, 0xffff0ff0
        mov dr6, rax
        pop rax
        push 0
        push 1
        push {HANDLER}
        ret
    """)
    for run in (system_guest.run, stepped):
        story = Story(run, kernel, gates={DB: gate(0x8000)}, memory={0x8000: resumes_breakpoints})
        assert [story.place(trap) for trap in story.outcome.traps][:3] == ["next", "next", "last"]
        assert story.rf()[:3] == [False, True, False]


# ---- DR6, DR7 and access to them ------------------------------------------------------------------------------------


def test_dr6_accumulates(machine: Run) -> None:
    """The CPU sets bits and, of B0-B3, may clear; BS stays until software clears it."""
    kernel = f"""
        STEP
        nop
    one:
        STEP_END
    end:
        WATCH 0, DATA
        WATCH 1, DATA + 8
        ARM {dr7((0, WRITE, 8), (1, WRITE, 8))}
        mov [DATA], rax
    two:
        mov [DATA + 8], rax
    three:
        mov eax, 0xffff0ff0
        mov dr6, rax
        mov [DATA], rax
    four:
        FINISH
    """
    story = Story(machine, kernel)
    assert story.debug[0] == ("one", BS)
    assert [place for place, _ in story.debug[-3:]] == ["two", "three", "four"]
    if machine is not qemu.run:  # which does not forget earlier hits
        assert [bits for _, bits in story.debug[-3:]] == [BS | 1, BS | 2, 1]


def test_general_detect() -> None:
    """GD: MOV DR faults, with RF = 1 in the image; the delivery clears GD. Not in QEMU 7.2."""
    kernel = f"""
        ARM {LE | GE | GD}
    one:
        mov rbx, dr7
        ARM {LE | GE | GD}
    two:
        mov dr1, rbx
        mov rcx, dr1
        ARM 0
        FINISH
    """
    for run in (system_guest.run, stepped):
        story = Story(run, kernel)
        assert story.debug == [("one", BD), ("two", BD)]
        assert story.rf() == [True, True]
        assert story.outcome.gpr["rbx"] == story.outcome.gpr["rcx"] == 0x400 | LE | GE


def test_general_detect_is_cleared_by_other_debug_exceptions() -> None:
    kernel = (
        f"WATCH 0, DATA\n ARM {dr7((0, WRITE, 1), bits=LE | GE | GD)}\n mov [DATA], al\nat:\n mov rbx, dr7\n FINISH"
    )
    for run in (system_guest.run, stepped):
        story = Story(run, kernel)
        assert story.debug == [("at", 1)]
        assert story.outcome.gpr["rbx"] == 0x400 | dr7((0, WRITE, 1))


def test_register_bits(machine: Run) -> None:
    """Reserved bits read as fixed; DR4 and DR5 are DR6 and DR7 without CR4.DE."""
    kernel = """
        mov eax, 0xffff
        mov dr6, rax
        mov rbx, dr4
        mov eax, 0xaaaadf00
        mov dr5, rax
        mov rcx, dr7
        mov rdx, 0x8000123456789abc
        mov dr3, rdx
        mov rbp, dr3
        xor eax, eax
        mov dr7, rax
        mov rsi, dr5
        FINISH
    """
    gpr = Story(machine, kernel).outcome.gpr
    assert gpr["rbx"] == 0xFFFFEFFF or machine is qemu.run  # QEMU keeps reserved bits
    assert gpr["rcx"] & 0xFFFF23FF == 0xAAAA0300 and gpr["rcx"] & 0x400
    assert gpr["rcx"] & 0xD800 == 0 or machine is qemu.run
    assert gpr["rbp"] == 0x8000123456789ABC
    assert gpr["rsi"] == 0x400


# ---- I/O breakpoints -------------------------------------------------------------------------------------------------


def test_io_breakpoints(machine: Run) -> None:
    """CR4.DE = 1: a trap after IN and OUT that touch the range, and after the iteration of OUTS."""
    kernel = f"""
        WATCH 1, 0xed
        WATCH 2, 0x82
        ARM {dr7((1, IO, 1), (2, IO, 2))}
        out 0xed, al
    one:
        in al, 0xed
    two:
        out 0xee, al
        in al, 0x80
        in al, 0x83
    three:
        mov dx, 0x81
        out dx, ax
    four:
        mov edx, 0xed
        mov esi, DATA
        mov ecx, 2
    string:
        rep outsb
    end:
        mov al, [0xed]
        FINISH
    """
    story = Story(machine, kernel, cr4=CR4 | CR4_DE)
    wanted = [("one", 2), ("two", 2), ("three", 4), ("four", 4), ("string", 2), ("end", 2)]
    if machine is qemu.run:  # RIP is behind the string instruction already
        assert story.debug[:4] == wanted[:4]
    else:
        assert story.debug == wanted


def test_io_breakpoints_leave_memory_alone(machine: Run) -> None:
    kernel = f"WATCH 0, DATA\n ARM {dr7((0, IO, 8))}\n mov [DATA], rax\n mov rax, [DATA]\n FINISH"
    assert Story(machine, kernel, cr4=CR4 | CR4_DE).traps == []


# ---- state -----------------------------------------------------------------------------------------------------------


def test_a_delayed_breakpoint_is_part_of_the_state() -> None:
    """Between MOV SS and the instruction behind it: in the registers, the snapshot and the digest."""
    kernel = f"mov eax, 0x18\n mov [DATA], eax\n WATCH 2, DATA\n ARM {dr7((2, ACCESS, 2))}\n mov ss, [DATA]\nat:\n nop\nnext:\n FINISH"
    places = {name: address for address, name in labels(kernel, system_guest.CODE).items()}
    vm = system_guest.start(Guest(MACROS + kernel, policies={DB: RETURN}))
    while vm.registers().rip != places["at"]:
        vm.run(instret=vm.instret + 1)
    registers, digest, snapshot = vm.registers(), vm.digest(), vm.snapshot()
    assert registers.shadow == 2 | 4 << 4
    vm.set_registers(registers.replace(shadow=2))
    assert vm.digest() != digest
    assert vm.run().kind is StopKind.HALTED
    assert vm.read_memory(VARS + 24, 8) == system_guest.LOG.to_bytes(8, "little"), "no trap: it was taken away"
    vm.restore(snapshot)
    assert vm.digest() == digest
    vm.run()
    assert [(t.vector, t.rip) for t in system_guest.outcome(vm).traps] == [(DB, places["next"])]


def test_interrupts_between_iterations_push_rf() -> None:
    """However the run is cut: RF is 1 in the image of an interrupt that stops a string instruction, else 0."""
    kernel = "sti\n mov edi, DATA\n mov ecx, 4\nat:\n rep stosb\nnext:\n nop\nlast:\n FINISH"
    places = {name: address for address, name in labels(kernel, system_guest.CODE).items()}
    seen: dict[tuple[int, int], bool] = {}
    for at in range(2, 10):
        vm = system_guest.start(Guest(MACROS + kernel, policies={2: RETURN}))
        vm.run(instret=at)
        vm.set_registers(vm.registers().replace(nmi_pending=1))
        vm.run()
        trap = system_guest.outcome(vm).traps[0]
        assert trap.vector == 2
        seen[at, trap.rip] = bool(trap.rflags & RF)
    assert {rip for (_, rip), rf in seen.items() if rf} == {places["at"]}
    assert sum(seen.values()) == 3, "after the first three of four iterations"
    assert any(rip == places["at"] and not rf for (_, rip), rf in seen.items()), "before the first"


def test_a_page_fault_between_breakpoint_and_execution(machine: Run) -> None:
    """User stack and data: a breakpoint's fault, the page fault of the same instruction, the data trap of the retry."""
    user = f"at:\n mov eax, [{HOLE}]\nnext:\n int 0x81"
    places = {name: address for address, name in labels(user, UCODE).items()}
    kernel = f"WATCH 0, {places['at']}\n ARM {dr7((0, EXECUTE, 1))}\n RESUME_AT done\n TO_USER\ndone:\n FINISH"
    story = Story(machine, kernel, user, policies={DB: RETURN_RF, PF: RESUME})
    assert story.traps == [(DB, "at"), (PF, "at")]
    assert [t.cr2 for t in story.outcome.traps] == [0, HOLE]
    assert story.outcome.traps[1].error == 4
    assert story.outcome.traps[0].rsp == USTACK
