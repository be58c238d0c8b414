"""cc_tui.options: sizes, times and counts as people write them."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui import options
from cc_tui.opening import describe
from cc_tui.options import LaunchOptions, parse_count, parse_seed, parse_size, parse_time_ns
from chaoscontrol.config import DEFAULT_CMDLINE, GIB, KIB, MIB, VmConfig, format_bytes
from chaoscontrol.errors import UsageError
from chaoscontrol.images import image_path


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("256M", 256 * MIB), ("1G", GIB), ("1GiB", GIB), ("1gb", GIB), ("512k", 512 * KIB), ("1.5G", 3 * GIB // 2)),
        *(("64", 64 * MIB), ("0", 0), ("1T", 1024 * GIB), (" 2 MiB ", 2 * MIB)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "ns"),
    [("5s", 5 * 10**9), ("100us", 100_000), ("100µs", 100_000), ("1.5ms", 1_500_000), ("7ns", 7), ("2m", 120 * 10**9)],
)
def test_times(text: str, ns: int) -> None:
    assert parse_time_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "count"), [("1000000", 10**6), ("250k", 250_000), ("1.5G", 1_500_000_000), ("1_000", 1000)]
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_size, text) for text in ("", "M", "-1M", "1.3k", "1MM", "12 apples", "0x10")),
        *((parse_time_ns, text) for text in ("", "5", "-1s", "1.5ns", "s", "5 years", "9999999999h")),
        *((parse_count, text) for text in ("", "-1", "1.5", "k", "1e6", "9" * 30)),
        *((parse_seed, text) for text in ("", "-1", str(2**64), "seed", "1.0")),
    ],
)
def test_nonsense_is_refused_with_an_example(parse: object, text: str) -> None:
    with pytest.raises(UsageError, match="; write "):
        parse(text)  # type: ignore[operator]


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_usage_error(text: str) -> None:
    for parse in (parse_size, parse_time_ns, parse_count, parse_seed):
        with contextlib.suppress(UsageError):
            assert parse(text) >= 0


@given(st.integers(0, 2**64 - 1))
def test_a_seed_is_read_in_both_notations(seed: int) -> None:
    assert parse_seed(str(seed)) == parse_seed(hex(seed)) == seed


@pytest.mark.parametrize("memory", [0, 1024 * GIB, 4 * GIB, 512 * KIB, MIB + 1, -MIB])
def test_memory_no_machine_can_have_is_refused(memory: int) -> None:
    with pytest.raises(UsageError, match=r"of memory; give a multiple of 4 KiB from 1 MiB to 3 GiB"):
        VmConfig(memory_bytes=memory)


def test_the_included_images_are_the_default() -> None:
    kernel, initrd = LaunchOptions().files()
    assert kernel.endswith("vmlinux-6.1.zst")
    assert initrd is not None and initrd.endswith("hello.cpio.zst")
    assert LaunchOptions(kernel="my").files() == ("my", None)
    assert LaunchOptions().vm_config().cmdline == DEFAULT_CMDLINE


def test_a_cluster_gets_the_options() -> None:
    simulation = LaunchOptions(vms=3, seed=9, quantum_ns=10_000, memory_bytes=64 * MIB, vcpu="kvm").simulation()
    assert (simulation.num_vms, simulation.seed, simulation.quantum_ns) == (3, 9, 10_000)
    assert (simulation.vm_config.memory_bytes, simulation.vm_config.vcpu) == (64 * MIB, "kvm")


def test_bytes_are_written_for_people() -> None:
    shown = [format_bytes(n) for n in (0, 17, 4096, 256 * MIB, 3 * MIB // 2, 1 << 40)]
    assert shown == ["0 bytes", "17 bytes", "4 KiB", "256 MiB", "1.5 MiB", "1 TiB"]
    assert options.parse_size("1.5M") == 3 * MIB // 2


def test_images_are_files_or_names_of_included_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools").mkdir()  # no directory is an image
    (tmp_path / "hello").write_text("a file of that name")
    included = LaunchOptions(kernel="vmlinux", initrd="tools").files()
    assert included == (image_path("vmlinux"), image_path("tools"))
    assert LaunchOptions(initrd="hello").files() == (image_path("vmlinux"), "hello")
    assert LaunchOptions(kernel="./vmlinux").files() == ("./vmlinux", None)
    assert LaunchOptions(kernel="no-such").files() == ("no-such", None)
    assert LaunchOptions().files() == (image_path("vmlinux"), image_path("hello"))


def test_a_heading_is_the_command_line_again() -> None:
    given = LaunchOptions(kernel="my kernel", initrd="it's", cmdline='quiet "a b"', schedule="a;b.toml")
    words = shlex.split(describe(given))
    assert words[:3] == ["cc-tui", "--seed", "0"]
    assert {"my kernel", "it's", 'quiet "a b"', "a;b.toml"} <= set(words)
