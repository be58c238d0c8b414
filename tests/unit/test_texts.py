"""Texts that people write: everything that can be wrong with one is one line, whatever Python's readers raise."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.batch.failure_file import read_failure
from cc_tui.commands.catching import _pattern
from cc_tui.settings import load_settings
from chaoscontrol.errors import UsageError
from chaoscontrol.oracle import ConsoleNever
from chaoscontrol.scenario import parse_scenario, read_scenario
from chaoscontrol.texts import compile_pattern, read_toml

NO_TOML = {
    "nothing after the sign": "a = ",
    "a number of 5000 digits": "a = " + "1" * 5000,
    "lists in lists": "a = " + "[" * 9000 + "]" * 9000,
    "tables in tables": "a = " + "{a = " * 9000 + "1" + "}" * 9000,
}
NO_PATTERNS = {"open": "(", "groups in groups": "(" * 9000 + ")" * 9000, "a repetition": "a{99999999999999999999}"}


@pytest.mark.parametrize("text", NO_TOML.values(), ids=NO_TOML)
def test_files_that_are_not_toml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    for read in (lambda: read_scenario(str(path)), lambda: load_settings(path), lambda: read_failure(str(path))):
        with pytest.raises(UsageError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: not TOML: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", NO_PATTERNS.values(), ids=NO_PATTERNS)
def test_patterns_that_cannot_be(pattern: str) -> None:
    for use in (
        lambda: ConsoleNever(pattern),
        lambda: _pattern(pattern),
        lambda: parse_scenario({"name": "x", "console": {"never": [pattern]}}),
    ):
        with pytest.raises(UsageError, match="regular expression"):
            use()


def test_bytes_are_utf_8() -> None:
    assert read_toml('a = "µ"'.encode()) == {"a": "µ"}
    with pytest.raises(ValueError, match="not TOML: 'utf-8' codec"):
        read_toml(b"\xff")


def test_a_pattern_that_python_warns_of_is_a_pattern() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_pattern("[[b]").search("[")


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for read in (read_toml, compile_pattern):
        try:
            read(text)
        except ValueError as e:
            assert "\n" not in str(e)
