"""Determinism is a property of style too: nothing in the engine may ask the host for time, chance or order.

ruff forbids random, secrets and pickle everywhere; here the stricter rules of core/.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted((ROOT / "core" / "chaoscontrol").rglob("*.py"))
FORBIDDEN = {"time", "datetime", "random", "secrets", "uuid", "pickle", "locale", "socket"}
FORBIDDEN_CALLS = {"urandom", "getrandom", "hash", "id", "perf_counter", "monotonic"}
LINES_MAX = 650


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr


def over_sets(tree: ast.AST) -> Iterator[int]:
    """Lines of loops over a set display or call, whose order is the hash order."""
    for node in ast.walk(tree):
        loops = [node.iter] if isinstance(node, ast.For | ast.comprehension) else []
        for source in loops:
            is_call = isinstance(source, ast.Call) and isinstance(source.func, ast.Name)
            if isinstance(source, ast.Set | ast.SetComp) or (is_call and source.func.id in ("set", "frozenset")):
                yield source.lineno


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_the_engine_asks_the_host_for_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not FORBIDDEN & set(imported(tree))
    assert not FORBIDDEN_CALLS & set(called(tree))
    assert not list(over_sets(tree))


@pytest.mark.parametrize(
    "path", [*CORE, *sorted((ROOT / "cc_tui").rglob("*.py")), *sorted((ROOT / "native").glob("*.py"))], ids=relative
)
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, "a file this long is asking to be two"
    assert ast.get_docstring(ast.parse(text)), "a module says in its first lines what it owns"


def test_the_binding_has_one_user() -> None:
    """import-linter does not see compiled modules."""
    users = [path for path in (*CORE, *(ROOT / "cc_tui").rglob("*.py")) if "_native import" in code_without_types(path)]
    assert [relative(path) for path in users] == ["core/chaoscontrol/_binding.py"]


def code_without_types(path: Path) -> str:
    """A module's text without what only a type checker reads."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return ast.unparse(tree)
