"""Branch edges that the engine records: which ones, by whom, and that nothing but the instructions decides them."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from flat_guests import COUNTER, TIMER, assemble, native_build, start
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol import DeterministicVm, EngineError, Symbol, UsageError, VmConfig, image_path, initramfs, read_symbols
from chaoscontrol.coverage import CELLS, Source, collect
from chaoscontrol.edges import find_tasks
from chaoscontrol.native_library import decode_length, kvm_unavailable

AT = 0x100000
M64 = (1 << 64) - 1


def cell(source: int, target: int) -> int:
    """The cell of an edge from the end of a branch instruction to a target, as docs/coverage.md defines it."""
    return (((source * 0x9E3779B97F4A7C15 & M64) ^ target) * 0xD1342543DE82EF95 & M64) >> 48


def expected(edges: dict[tuple[int, int], int]) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for (source, target), n in edges.items():
        counts[cell(source, target)] += n
    return {index: min(n, 255) for index, n in counts.items()}


def counted(vm: DeterministicVm) -> dict[int, int]:
    """Non-zero cells of the kernel's map: a flat guest runs at privilege level 0."""
    name, counters = vm.edges.maps()[0]
    assert name is None
    return {i: n for i, n in enumerate(counters) if n}


def run_flat(text: str, **config: object) -> DeterministicVm:
    vm = start(text, **config)
    vm.edges.record(kernel=True)
    assert vm.run(instret=1_000_000).kind.name == "HALTED"
    return vm


# ---- known edges ----


def test_a_loop_is_taken_one_time_less_than_it_runs() -> None:
    with run_flat("mov ecx, 5\n1: dec ecx\n jnz 1b\n hlt") as vm:
        assert counted(vm) == expected({(AT + 9, AT + 5): 4, (AT + 9, AT + 9): 1})


def test_a_counter_stays_at_255() -> None:
    with run_flat("mov ecx, 1000\n1: dec ecx\n jnz 1b\n hlt") as vm:
        assert counted(vm) == expected({(AT + 9, AT + 5): 999, (AT + 9, AT + 9): 1})
        assert max(counted(vm).values()) == 255


def test_both_ways_of_a_fused_comparison() -> None:
    # 0: xor eax, eax; 2: inc eax; 4: cmp eax, 3 (fused with) 7: jne 2; 9: hlt
    with run_flat("xor eax, eax\n1: inc eax\n cmp eax, 3\n jne 1b\n hlt") as vm:
        assert counted(vm) == expected({(AT + 9, AT + 2): 2, (AT + 9, AT + 9): 1})


def test_jumps_calls_and_returns_that_go_one_way_are_no_edges() -> None:
    with run_flat("call f\n jmp 1f\n nop\n1: hlt\n f: ret") as vm:
        assert counted(vm) == {}


def test_computed_jumps_and_calls() -> None:
    text = """
        lea rax, [rip + f]          # 7 bytes
        call rax                    # 2: ends at 9
        lea rbx, [rip + pointer]    # 7
        lea rcx, [rip + g]          # 7
        mov [rbx], rcx              # 3
        call [rbx]                  # 2: ends at 28
        jmp [rbx + 8]               # not reached: g does not return
    f:  ret                         # at 31
    g:  lea rdx, [rip + h]          # at 32, 7 bytes
        jmp rdx                     # 2: ends at 41
        nop
    h:  hlt                         # at 42
        .balign 8
    pointer: .quad 0, 0
    """
    with run_flat(text) as vm:
        edges = {(AT + 9, AT + 31): 1, (AT + 28, AT + 32): 1, (AT + 41, AT + 42): 1}
        assert counted(vm) == expected(edges)


def test_loop_instructions() -> None:
    # 0: mov ecx, 3; 5: loop 5; 7: jrcxz 10; 9: hlt; 10: hlt
    with run_flat("mov ecx, 3\n1: loop 1b\n jrcxz 2f\n hlt\n2: hlt") as vm:
        assert counted(vm) == expected({(AT + 7, AT + 5): 2, (AT + 7, AT + 7): 1, (AT + 9, AT + 10): 1})


def branch_length(code: bytes) -> int:
    """The length of the conditional branch or computed near jump or call at the start of `code`, or 0."""
    size = decode_length(code)
    body = code[:size]
    while body and (body[0] in (0xF2, 0xF3, 0x66, 0x67, 0x3E, 0x2E) or 0x40 <= body[0] <= 0x4F):
        body = body[1:]
    conditional = 0x70 <= body[0] <= 0x7F or 0xE0 <= body[0] <= 0xE3 or (body[0] == 0x0F and 0x80 <= body[1] <= 0x8F)
    computed = body[0] == 0xFF and body[1] >> 3 & 7 in (2, 4)
    return size if conditional or computed else 0


BRANCHY = """
    # Both ways of branches, in the page and over its end, a jump table, recursion.
    mov r12d, 1
1:  imul r12d, r12d, 1103515245
    add r12d, 12345
    mov eax, r12d
    shr eax, 16
    test al, 1
    jz 2f
    cmp eax, 20000
    ja 3f
2:  and eax, 3
    lea rbx, [rip + table]
    movsxd rax, dword ptr [rbx + rax * 4]
    add rax, rbx
    jmp rax
c0: inc r8
    jmp 1b
c1: mov edi, 5
    call fib
    jmp 1b
c2: lea rax, [rip + far_away]
    call rax
c3: dec r9
    js 1b
    jmp 1b
3:  mov ecx, 3
4:  loop 4b
    jmp far_jump
fib: cmp edi, 2
    jb 5f
    dec edi
    push rdi
    call fib
    pop rdi
    dec edi
    jmp fib
5:  ret
table: .long c0 - table, c1 - table, c2 - table, c3 - table
    .org 4090, 0x90
far_jump:
    test r12d, 0x100000          # crosses the page's end
    jz 1b
    jmp 1b
far_away:
    cmp r8, r9
    jl 6f
    nop
6:  ret
"""


@pytest.mark.parametrize("guest", [BRANCHY, COUNTER], ids=["branchy", "rep"])
def test_every_edge_of_a_single_stepped_run_and_no_other(guest: str) -> None:
    steps = 20_000
    edges: Counter[tuple[int, int]] = Counter()
    with start(guest) as traced, start(guest) as vm:
        rip = traced.registers().rip
        for _ in range(steps):
            length = branch_length(traced.read_memory(rip, 15))
            traced.step()
            following = traced.registers().rip
            if length:
                edges[rip + length, following] += 1
            rip = following
        vm.edges.record(kernel=True)
        vm.run(instret=steps)
        assert counted(vm) == expected(dict(edges))
        assert (len(edges) > 10) == (guest is BRANCHY), "REP goes back to itself, but is no branch"


# ---- nothing but the instructions decides ----

SPAN = 400_000


@functools.cache
def straight(guest: str) -> tuple[bytes, int]:
    with start(guest) as vm:
        vm.edges.record(kernel=True)
        vm.run(instret=SPAN)
        return vm.edges.maps()[0][1], vm.digest()


cuts = st.lists(st.tuples(st.integers(0, SPAN), st.integers(0, 40)), max_size=12)


@pytest.mark.parametrize("guest", [BRANCHY, TIMER], ids=["branchy", "interrupts"])
@settings(max_examples=25, deadline=None)
@given(cuts=cuts, tlb_bits=st.integers(4, 10), kib=st.sampled_from([64, 256, 4096]))
def test_slices_steps_and_cache_sizes_do_not_matter(
    guest: str, cuts: list[tuple[int, int]], tlb_bits: int, kib: int
) -> None:
    with start(guest) as vm:
        vm.set_cache_sizes(tlb_bits=tlb_bits, code_cache_kib=kib)
        vm.edges.record(kernel=True)
        for at, steps in sorted(cuts):
            vm.run(instret=at)
            for _ in range(steps):
                vm.step()
        if vm.instret <= SPAN:
            vm.run(instret=SPAN)
            assert (vm.edges.maps()[0][1], vm.digest()) == straight(guest)


@pytest.mark.parametrize("guest", [BRANCHY, TIMER], ids=["branchy", "interrupts"])
def test_a_stretch_after_a_restore_gives_the_same_map(guest: str) -> None:
    with start(guest) as vm:
        vm.run(instret=100_003)
        base = vm.snapshot()
        vm.edges.record(kernel=True)
        vm.run(instret=200_000)
        first = vm.edges.maps()
        vm.run(instret=300_000)
        vm.restore(base)
        vm.edges.clear()
        vm.run(instret=200_000)
        assert vm.edges.maps() == first
        with vm.fork() as other:
            other.restore(base)
            other.edges.record(kernel=True)
            other.run(instret=200_000)
            assert other.edges.maps() == first


def test_recording_can_be_switched_at_any_time_and_changes_nothing() -> None:
    with start(BRANCHY) as vm, start(BRANCHY) as plain:
        sums: list[int] = []
        for i in range(1, 41):
            vm.edges.record(kernel=i % 2 == 0)
            vm.run(instret=i * 1000)
            sums.append(sum(vm.edges.maps()[0][1]) if vm.edges.maps() else 0)
        plain.run(instret=40_000)
        assert vm.digest() == plain.digest()
        assert sums[0] == 0
        assert all(sums[i] == sums[i - 1] for i in range(2, 40, 2)), "counted while off"
        assert all(sums[i] > sums[i - 1] for i in range(1, 39, 2)), "not counted while on"


# ---- bad input ----


def test_too_many_programs_and_bad_kinds_are_refused() -> None:
    with start("hlt") as vm:
        with pytest.raises(UsageError, match="65 programs: at most 64"):
            vm.edges.record(programs=[f"p{i}" for i in range(65)])
        assert vm.edges.maps() == []
        vm.edges.clear()
        with pytest.raises(UsageError, match="symbols"):
            find_tasks(vm, [])


@pytest.mark.skipif(kvm_unavailable() is not None, reason="needs KVM")
def test_kvm_says_that_it_cannot() -> None:
    with DeterministicVm(VmConfig(vcpu="kvm")) as vm, pytest.raises(EngineError, match="soft vCPU only"):
        vm.edges.record(kernel=True)


# ---- Linux ----

LINE = "hello from cc-tui guest"


@functools.cache
def kernel_symbols() -> list[Symbol]:
    return read_symbols(image_path("vmlinux-6.1.sym")).symbols


def linux(initrd: bytes | str | None = None, **caches: int) -> DeterministicVm:
    vm = DeterministicVm()
    vm.load_kernel(image_path("vmlinux"), initrd or image_path("hello"))
    if caches:
        vm.set_cache_sizes(**caches)
    vm.edges.record(kernel=True, user=True, tasks=find_tasks(vm, kernel_symbols()))
    return vm


def test_a_boot_has_the_same_edges_every_time() -> None:
    maps: list[object] = []
    for caches in ({}, {}, {"tlb_bits": 5, "code_cache_kib": 64}):
        with linux(**caches) as vm:
            vm.run(console=LINE)
            maps.append((vm.edges.maps(), vm.digest()))
    with linux() as vm:
        vm.edges.stop()
        vm.run(console=LINE)
        assert vm.edges.maps() == [(None, bytes(CELLS))]
        quiet = vm.digest()
    assert maps[0] == maps[1] == maps[2]
    edges, digest = maps[0]  # type: ignore[misc]
    assert digest == quiet, "recording must be invisible"
    assert [name for name, _ in edges] == [None, "init"]
    assert CELLS - edges[0][1].count(0) > 5000
    assert 20 < CELLS - edges[1][1].count(0) < 1000


SYSCALL = """
static long call(long n, long a, long b, long c, long d)
{
    long r;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return r;
}
"""
INIT_C = (
    SYSCALL
    + """
static void run(const char *path)
{
    const char *argv[2] = {path, 0};
    if (call(57, 0, 0, 0, 0) == 0) {
        call(59, (long)path, (long)argv, 0, 0);
        call(60, 1, 0, 0, 0);
    }
    call(61, -1, 0, 0, 0);
}
void _start(void)
{
    run("/plain");
    run("/pie");
    run("/a-program-with-a-long-name");
    run("/plain");
    call(1, 1, (long)"all done\\n", 9, 0);
    for (;;)
        call(34, 0, 0, 0, 0);
}
"""
)
LOOP_C = (
    SYSCALL
    + """
void _start(void)
{
    __asm__ volatile("mov $200, %%ecx\\n.globl again\\nagain: dec %%ecx\\njnz again\\n.globl after\\nafter:" ::: "ecx");
    call(60, 0, 0, 0, 0);
}
"""
)


@functools.cache
def compiled(text: str, *flags: str) -> bytes:
    options = ["-O1", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none", *flags]
    with tempfile.TemporaryDirectory(prefix="coverage-guests-") as directory:
        out = Path(directory) / "guest"
        command = [*native_build().find_compiler().command, *options, "-o", str(out), "-x", "c", "-"]
        subprocess.run(command, input=text, text=True, check=True)
        return out.read_bytes()


def programs_initrd() -> bytes:
    plain = compiled(LOOP_C, "-static", "-no-pie", "-fno-pie")
    pie = compiled(LOOP_C, "-static-pie", "-fpie", "-Wl,--no-dynamic-linker")
    files = [("plain", plain), ("pie", pie), ("a-program-with-a-long-name", plain)]
    init = compiled(INIT_C, "-static", "-no-pie", "-fno-pie", "-Wno-unused")
    return initramfs.bootable(init, [initramfs.regular(name, data, 0o755) for name, data in files])


def test_programs_are_told_apart_by_name() -> None:
    initrd = programs_initrd()
    with linux(initrd) as vm, linux(initrd) as chosen, linux(initrd) as sliced:
        vm.run(console="all done")
        maps = dict(vm.edges.maps())
        assert list(maps) == [None, "init", "plain", "pie", "a-program-with-"]
        loop = {s.name: s.address for s in read_symbols(compiled(LOOP_C, "-static", "-no-pie", "-fno-pie")).symbols}
        taken, left = cell(loop["after"], loop["again"]), cell(loop["after"], loop["after"])
        plain = {i: n for i, n in enumerate(maps["plain"]) if n}
        assert plain == {taken: 255, left: 2}, "it ran twice, 199 times back each"
        long_name = {i: n for i, n in enumerate(maps["a-program-with-"]) if n}
        assert long_name == {taken: 199, left: 1}
        assert sorted(n for n in maps["pie"] if n) == [1, 199]

        tasks = find_tasks(chosen, kernel_symbols())
        chosen.edges.record(programs=["pie", "a-program-with-a-long-name"], tasks=tasks)
        chosen.run(console="all done")
        assert [name for name, _ in chosen.edges.maps()] == [None, "pie", "a-program-with-"]
        assert dict(chosen.edges.maps())["pie"] == maps["pie"]
        assert not any(chosen.edges.maps()[0][1])
        assert chosen.digest() == vm.digest()

        end = vm.instret
        for i in range(1, 4000):
            sliced.run(instret=end * i // 4000)
            if i % 500 == 0:
                base = sliced.snapshot()  # a restore in the middle of a program finds out whose code it is
                sliced.restore(base)
        sliced.run(instret=end)
        assert sliced.edges.maps() == vm.edges.maps()
        assert sliced.digest() == vm.digest()


def test_recording_that_starts_inside_a_program_counts_the_rest_of_it() -> None:
    with linux(programs_initrd()) as vm:
        tasks = find_tasks(vm, kernel_symbols())
        vm.edges.stop()
        base = vm.snapshot()

        def pie_until(instret: int | None) -> list[int]:
            vm.restore(base)
            vm.edges.clear()
            vm.edges.record(programs=["pie"], tasks=tasks)
            vm.run(instret=instret, console="all done")
            vm.edges.stop()
            return list(dict(vm.edges.maps()).get("pie", bytes(CELLS)))

        whole = pie_until(None)
        low, high = 0, vm.instret
        while high - low > 1:  # the first moment at which it went back 50 times
            middle = (low + high) // 2
            low, high = (low, middle) if max(pie_until(middle)) >= 50 else (middle, high)
        begun = pie_until(high)
        assert (max(whole), max(begun)) == (199, 50)
        vm.edges.clear()
        vm.edges.record(programs=["pie"], tasks=tasks)
        vm.run(console="all done")
        rest = dict(vm.edges.maps())["pie"]
        assert [a + b for a, b in zip(begun, rest, strict=True)] == whole


# ---- the guest's own bitmap, and all machines together ----

SDK_GUEST = """
    mov dx, 0x511
    xor eax, eax
    out dx, eax
    mov rbx, 0xe0000
    mov byte ptr [rbx + 5], 7
    mov byte ptr [rbx + 65535], 255
    hlt
"""


def test_the_bitmap_is_read_and_cleared() -> None:
    with start(SDK_GUEST) as vm:
        assert vm.read_coverage_bitmap() == bytes(CELLS)
        assert not collect([vm])
        vm.run(instret=1000)
        bitmap = vm.read_coverage_bitmap()
        assert (bitmap[5], bitmap[65535], sum(bitmap)) == (7, 255, 262)
        vm.clear_coverage_bitmap()
        assert vm.read_coverage_bitmap() == bytes(CELLS)


def test_all_machines_and_sources_are_collected() -> None:
    loop = "mov ecx, 5\n1: dec ecx\n jnz 1b\n hlt"
    with start(SDK_GUEST) as first, run_flat(loop) as second, start(SDK_GUEST.replace("+ 5], 7", "+ 6], 1")) as third:
        first.run(instret=1000)
        third.run(instret=1000)
        found = collect([first, second, third])
        assert list(found) == [(Source.SDK, ""), (Source.KERNEL, "")]
        sdk = found.bits(Source.SDK)
        assert {i: b for i, b in enumerate(sdk) if b} == {5: 8, 6: 1, 65535: 128}
        assert found.stats(Source.KERNEL).classes == (1, 0, 0, 1, 0, 0, 0, 0)
    assert len(assemble(loop)) == 10
