"""No instruction handler calls the next one: it jumps.

A handler that dispatches by a call uses host stack for every guest instruction until the run loop is reached again, so
a guest could crash the process. The compiler makes such a call when the address of a local has escaped; nothing in the
source shows it. So this reads the machine code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict

import pytest
from flat_guests import ROOT, native_build

LOOPS = {"soft_run", "run_block", "execute"}
"""Where handlers may be called: soft.c's loop (run_block and execute are usually inlined into it)."""

POINTER_CALLS = {"cc_sse_select", "trig"}
"""Functions that call through pointers that are no handlers."""

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
DIRECT = re.compile(r"\s(call|jmp|j[a-z]+)\s+[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>")
THROUGH_MEMORY = re.compile(r"\s(call|jmp)\s+\*(?:0x[0-9a-f]+)?\(%r[a-z0-9]+\)")
THROUGH_REGISTER = re.compile(r"\s(call|jmp)\s+\*(%r[a-z0-9]+)")


def indirect(lines: list[str], kind: str) -> bool:
    """Whether a function has an indirect call or jump; a switch statement's jump (to base + offset) is none."""
    for i, line in enumerate(lines):
        match = THROUGH_MEMORY.search(line) or THROUGH_REGISTER.search(line)
        if match and match[1] == kind:
            is_switch = match.lastindex == 2 and any(
                re.search(rf"\sadd .*,{match[2]}$", near) for near in lines[i - 3 : i]
            )
            if not is_switch:
                return True
    return False


def targets(lines: list[str], *, call: bool) -> set[str]:
    """The functions that a function calls, or jumps to the start of."""
    matches = (DIRECT.search(line) for line in lines)
    return {m[2] for m in matches if m and not m[3] and (m[1] == "call") == call}


def code_of_soft() -> dict[str, list[str]]:
    """The instructions of every function of native/soft in the release library."""
    build = native_build()
    compiler = build.find_compiler()
    if compiler.is_clang or shutil.which("objdump") is None:
        pytest.skip("clang builds return to a loop; without objdump nothing can be read")
    builder = build.Builder("release", compiler, 2)
    library = builder.extension(ROOT / "build" / "tail-calls")
    symbols: set[str] = set()
    for path in builder.obj.glob("soft__*.o"):
        names = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
        symbols |= {line.split()[-1] for line in names.splitlines() if line.split()[-2] in "tT"}
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library.with_name("_native.abi3.so"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, list[str]] = defaultdict(list)
    name = ""
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            name = match[1]
        elif name in symbols:
            found[name].append(line)
    return found


def test_every_dispatch_is_a_jump() -> None:
    code = code_of_soft()
    dispatchers = {name for name, lines in code.items() if indirect(lines, "jmp")}
    assert len(dispatchers) > 1000, "handlers that end in a jump through the op"
    while True:
        more = {name for name, lines in code.items() if not dispatchers.isdisjoint(targets(lines, call=False))}
        if more <= dispatchers:
            break
        dispatchers |= more
    calls = {
        f"{name} calls {target}"
        for name, lines in code.items()
        for target in targets(lines, call=True) & dispatchers
        if name not in LOOPS
    }
    pointer_callers = {name.partition(".")[0] for name, lines in code.items() if indirect(lines, "call")}
    assert not calls
    assert pointer_callers <= LOOPS | POINTER_CALLS
