"""core/chaoscontrol/_native.pyi says what native/include/cc.h says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def declared_in_header() -> tuple[dict[str, int], set[str]]:
    text = (ROOT / "native/include/cc.h").read_text()
    text = text[text.index("[cdef-begin]") : text.index("[cdef-end]")]
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    constants = set(re.findall(r"^#define (\w+)", text, flags=re.MULTILINE))
    functions: dict[str, int] = {}
    for name, arguments in re.findall(r"^[\w ]+[ *](cc_\w+)\(([^)]*)\);", text, flags=re.MULTILINE):
        functions[name] = 0 if arguments.strip() == "void" else arguments.count(",") + 1
    return functions, constants


def declared_in_stub() -> tuple[dict[str, int], set[str]]:
    text = (ROOT / "core/chaoscontrol/_native.pyi").read_text()
    functions = {
        name: 0 if arguments == "self" else arguments.removesuffix(", /").count(",")
        for name, arguments in re.findall(r"def (cc_\w+)\(([^)]*)\)", text)
    }
    return functions, set(re.findall(r"^    (CC_\w+): int", text, flags=re.MULTILINE))


def test_functions_and_constants_are_those_of_the_header() -> None:
    assert declared_in_stub() == declared_in_header()
    assert len(declared_in_header()[0]) > 40
