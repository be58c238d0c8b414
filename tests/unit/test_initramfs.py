"""chaoscontrol.initramfs: what is written can be read again, here and by others, and is the same whatever the order."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chaoscontrol import initramfs

ENTRIES = [
    initramfs.directory("bin"),
    initramfs.regular("bin/tool", b"\x7fELF...", 0o755),
    initramfs.symlink("bin/alias", "tool"),
    initramfs.character_device("dev/null", (1, 3), 0o666),
    initramfs.regular("etc/empty", b""),
    initramfs.regular("etc/grüße", b"text\n"),
]


def test_round_trip() -> None:
    back = initramfs.read_newc(initramfs.write_newc(ENTRIES))
    assert set(ENTRIES) <= set(back)
    assert {entry.path for entry in back} - {entry.path for entry in ENTRIES} == {"dev", "etc"}


def test_order_of_input_does_not_matter() -> None:
    assert initramfs.write_newc(ENTRIES) == initramfs.write_newc(reversed(ENTRIES))


def test_directories_come_before_what_they_hold() -> None:
    paths = [
        entry.path for entry in initramfs.read_newc(initramfs.write_newc([*ENTRIES, initramfs.regular("bin-x", b"")]))
    ]
    for path in paths:
        for parent in Path(path).parents:
            assert str(parent) == "." or paths.index(str(parent)) < paths.index(path)


@pytest.mark.parametrize("size", range(9))
def test_names_and_data_of_any_length_are_padded(size: int) -> None:
    entries = [initramfs.regular("n" * (size + 1), bytes(range(size))), initramfs.regular("zz", b"after")]
    archive = initramfs.write_newc(entries)
    assert initramfs.read_newc(archive) == sorted(entries)
    assert len(archive) % initramfs.ARCHIVE_ALIGNMENT == 0


def test_header_fields_are_fixed() -> None:
    archive = initramfs.write_newc([initramfs.regular("a", b"xyz", 0o600)])
    # The layout of the kernel's buffer-format.rst: inode, mode, uid, gid, links, mtime, size, 4 device numbers, name
    # size, check.
    fields = "00000001 00008180 00000000 00000000 00000001 00000000 00000003 " + "00000000 " * 4 + "00000002 00000000"
    assert archive.startswith(b"070701" + fields.replace(" ", "").encode() + b"a\0" + b"xyz\0" + b"070701")


def test_system_cpio_reads_the_archive(tmp_path: Path) -> None:
    cpio = shutil.which("cpio")
    assert cpio is not None, "cpio is needed (Debian: apt install cpio); .ci/run installs it"
    listing = subprocess.run([cpio, "-it"], input=initramfs.write_newc(ENTRIES), capture_output=True, check=True)
    listed = listing.stdout.split()
    # The eighth name is not ASCII: cpio shows it as its locale pleases.
    assert listed[:7] == [b"bin", b"bin/alias", b"bin/tool", b"dev", b"dev/null", b"etc", b"etc/empty"]
    assert len(listed) == 8


@pytest.mark.parametrize("path", ["", "/abs", "a/../b", "./a", "a//b", "a/", ".", "..", "TRAILER!!!"])
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(initramfs.PackError, match="not a plain relative path"):
        initramfs.write_newc([initramfs.regular(path, b"")])


def test_contradictions_are_refused() -> None:
    with pytest.raises(initramfs.PackError, match="given twice"):
        initramfs.write_newc([initramfs.regular("a", b"1"), initramfs.regular("a", b"2")])
    with pytest.raises(initramfs.PackError, match="is not a directory"):
        initramfs.write_newc([initramfs.regular("a", b""), initramfs.regular("a/b", b"")])


@pytest.mark.parametrize("cut", [0, 50, 111, 300])
def test_truncated_archive_is_refused(cut: int) -> None:
    with pytest.raises(initramfs.PackError):
        initramfs.read_newc(initramfs.write_newc(ENTRIES)[:cut])


def test_entries_below_links_are_where_the_links_lead() -> None:
    tree = [
        initramfs.directory("usr/bin"),
        initramfs.symlink("bin", "usr/bin"),
        initramfs.symlink("sbin", "/usr/sbin"),
        initramfs.symlink("usr/sbin", "bin"),
        initramfs.symlink("bin/sh", "/usr/bin/sh"),  # of who asked for /bin/sh
        initramfs.regular("usr/bin/sh", b"dash"),
    ]
    base = [
        initramfs.directory("bin"),
        initramfs.regular("bin/sh", b"busybox"),
        initramfs.regular("bin/nc", b"busybox"),
        initramfs.regular("sbin/agent", b"agent"),
        initramfs.regular("init", b"init"),
    ]
    placed = {entry.path: entry.data for entry in initramfs.through_links([*tree, *base])}
    assert placed == {
        "usr/bin": b"",
        "bin": b"usr/bin",
        "sbin": b"/usr/sbin",
        "usr/sbin": b"bin",
        "usr/bin/sh": b"dash",
        "usr/bin/nc": b"busybox",
        "usr/bin/agent": b"agent",
        "init": b"init",
    }
    initramfs.write_newc(initramfs.through_links([*tree, *base]))
    with pytest.raises(initramfs.PackError, match="lead in circles"):
        initramfs.through_links(
            [initramfs.symlink("a", "b"), initramfs.symlink("b", "a"), initramfs.regular("a/x", b"")]
        )
