"""cc_tui.plain reads `boot` command lines as click does, or leaves them to it."""

from __future__ import annotations

import inspect
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.boot import boot
from cc_tui.cli import cli
from cc_tui.options import LaunchOptions, launch_options
from cc_tui.plain import read_boot

COMMAND = cli.commands["boot"]
VALUES = ["256M", "1s", "7", "0x10", "kvm", "soft", "a text", "", "-", "--json", "-5", "nonsense", "1.5G"]
FLAGS = [option for parameter in COMMAND.params if isinstance(parameter, click.Option) for option in parameter.opts]
WORDS = st.one_of(
    st.sampled_from([*FLAGS, "--", "--nothing", "-h", "kernel", "initrd", *VALUES]),
    st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)).map("=".join),
)


def by_click(words: list[str]) -> dict[str, Any]:
    return COMMAND.make_context("boot", list(words)).params


def test_everything() -> None:
    words = "vmlinux hello --cmdline a --append b --memory 1G --seed 0x7 --quantum 1ms --vcpu kvm --until=login: "
    words += "--max-vtime 5s --max-instructions 250k --json"
    plain = read_boot(["boot", *words.split()])
    assert plain == by_click(words.split())
    assert plain is not None
    assert plain["max_instructions"] == 250_000


@given(st.lists(WORDS, max_size=8), st.booleans())
def test_what_it_reads_is_what_click_reads(words: list[str], as_boot: bool) -> None:
    words = ["kernel", *words] if as_boot else words
    plain = read_boot(["boot", *words])
    if plain is not None:
        assert {**by_click(["kernel"]), **plain} == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["--vms", "2", "boot", "vmlinux"],
        ["boot"],
        ["boot", "a", "b", "c"],
        ["boot", "vmlinux", "--help"],
        ["boot", "vmlinux", "--debug"],
        ["boot", "vmlinux", "--memory"],
        ["boot", "vmlinux", "--memory", "much"],
        ["boot", "vmlinux", "--vcpu", "other"],
        ["boot", "vmlinux", "--until", "--json"],
        ["boot", "vmlinux", "--json=yes"],
        ["boot", "vmlinux", "--", "hello"],
    ],
)
def test_what_it_leaves_to_click(words: list[str]) -> None:
    assert read_boot(words) is None


def test_what_is_not_given_has_one_default() -> None:
    """click's defaults, which --help shows, are the functions' own."""
    own = inspect.signature(boot).parameters | inspect.signature(launch_options).parameters
    for name, value in by_click(["kernel"]).items():
        assert name == "kernel" or own[name].default == value, name
    assert launch_options() == LaunchOptions()
