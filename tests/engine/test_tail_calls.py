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

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
DIRECT = re.compile(r"\s(call|jmp|j[a-z]+)\s+[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>")
INDIRECT = re.compile(r"\s(call|jmp)\s+\*(?:0x[0-9a-f]+)?\(%r[a-z0-9]+\)")


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
    dispatchers = {
        name for name, lines in code.items() for line in lines if (m := INDIRECT.search(line)) and m[1] == "jmp"
    }
    assert len(dispatchers) > 500, "handlers that end in a jump through the op"
    while True:
        more = {
            name
            for name, lines in code.items()
            for line in lines
            if (m := DIRECT.search(line)) and m[1] != "call" and not m[3] and m[2] in dispatchers
        }
        if more <= dispatchers:
            break
        dispatchers |= more
    calls = {
        f"{name} calls {m[2]}"
        for name, lines in code.items()
        if name not in LOOPS
        for line in lines
        if (m := DIRECT.search(line)) and m[1] == "call" and not m[3] and m[2] in dispatchers
    }
    calls |= {
        f"{name} calls through a pointer in memory"
        for name, lines in code.items()
        if name not in LOOPS
        for line in lines
        if (m := INDIRECT.search(line)) and m[1] == "call"
    }
    assert not calls
