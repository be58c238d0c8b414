"""The committed guest images are what their manifest says, and the archive writer makes what the kernel reads."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # guest/ is a tool of the repository, not an installed package
    sys.path.insert(0, str(ROOT))

from guest import images, pack, toolchain  # noqa: E402
from guest.kernel import build as kernel  # noqa: E402

# --- manifest and files ----------------------------------------------------------------------------------------------


@pytest.fixture
def copied_images(tmp_path: Path) -> Path:
    """The committed images where a test may spoil them."""
    return Path(shutil.copytree(images.IMAGES, tmp_path / "images"))


def test_committed_images_match_manifest_and_sources() -> None:
    assert images.verify() == []


def test_every_image_names_licence_source_and_build() -> None:
    for recipe in images.read_manifest()["recipes"].values():
        assert recipe["licence"]
        assert recipe["build"].startswith("python3 -m guest.images build")
        assert all(recipe["packages"].values())
        assert recipe["toolchain"][toolchain.COMPILER]


def test_no_image_or_manifest_names_the_place_it_was_built() -> None:
    for path in sorted(images.IMAGES.iterdir()):
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = images.decompress(content)
        # Builds happen in /tmp/guest-NAME-*, sources lie in the repository.
        for place in (b"/tmp/guest-", b"/home/", b"/usr/src/", bytes(ROOT)):
            assert place not in content


def test_changed_byte_is_found(copied_images: Path) -> None:
    path = copied_images / "hello.cpio.zst"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert images.verify(copied_images) == [f"hello.cpio: {path} is not the file of the manifest"]


def test_missing_and_stray_files_are_found(copied_images: Path) -> None:
    (copied_images / "hello.sym.zst").rename(copied_images / "stray")
    assert images.verify(copied_images) == [
        f"hello.sym: {copied_images / 'hello.sym.zst'} is missing",
        "stray: no entry in the manifest",
    ]


def test_changed_source_is_found(copied_images: Path) -> None:
    manifest = json.loads((copied_images / images.MANIFEST).read_text())
    manifest["recipes"]["kernel"]["inputs"]["guest/kernel/config"] = "0" * 64
    images.write_manifest(manifest, copied_images)
    (problem,) = images.verify(copied_images)
    assert problem.startswith("kernel: its sources changed")


def test_damaged_frame_is_one_clear_error() -> None:
    frame = images.compress(b"x" * 10_000)
    assert images.decompress(frame) == b"x" * 10_000
    for damaged in (frame[:-3], b"", b"not zstd at all"):
        with pytest.raises(toolchain.BuildError):
            images.decompress(damaged)


def test_missing_packages_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(program: str, *, path: str) -> None:
        del program, path

    monkeypatch.setattr(toolchain.shutil, "which", nowhere)
    with pytest.raises(toolchain.BuildError) as raised:
        toolchain.require_packages()
    message = str(raised.value)
    assert "\n" not in message
    assert "apt-get install" in message
    assert "musl-tools" in message


def test_option_that_kconfig_dropped_is_an_error() -> None:
    kernel.check_config("CONFIG_A=y\n# CONFIG_B is not set\n", "CONFIG_A=y\n")
    with pytest.raises(toolchain.BuildError, match="CONFIG_A: asked for y, Kconfig says n"):
        kernel.check_config("CONFIG_A=y\n", "# CONFIG_A is not set\n")
    with pytest.raises(toolchain.BuildError, match="CONFIG_B: asked for n, Kconfig says y"):
        kernel.check_config("# CONFIG_B is not set\n", "CONFIG_B=y\n")


def test_committed_hello_boots_from_a_console_node() -> None:
    entries = {entry.path: entry for entry in pack.read_newc(images.decompress(_image("hello.cpio")))}
    assert entries["init"].data.startswith(b"\x7fELF")
    assert entries["init"].mode == stat.S_IFREG | 0o755
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)


def test_committed_kernel_is_a_static_64_bit_elf() -> None:
    header = images.decompress(_image("vmlinux-6.1"))[:64]
    assert header[:5] == b"\x7fELF\x02"
    assert int.from_bytes(header[16:18], "little") == 2  # ET_EXEC
    assert int.from_bytes(header[18:20], "little") == 62  # EM_X86_64


def _image(name: str) -> bytes:
    return (images.IMAGES / f"{name}.zst").read_bytes()


# --- cpio --------------------------------------------------------------------------------------------------------


ENTRIES = [
    pack.directory("bin"),
    pack.regular("bin/tool", b"\x7fELF...", 0o755),
    pack.symlink("bin/alias", "tool"),
    pack.character_device("dev/null", (1, 3), 0o666),
    pack.regular("etc/empty", b""),
    pack.regular("etc/grüße", b"text\n"),
]


def test_round_trip() -> None:
    back = pack.read_newc(pack.write_newc(ENTRIES))
    assert set(ENTRIES) <= set(back)
    assert {entry.path for entry in back} - {entry.path for entry in ENTRIES} == {"dev", "etc"}


def test_order_of_input_does_not_matter() -> None:
    assert pack.write_newc(ENTRIES) == pack.write_newc(reversed(ENTRIES))


def test_directories_come_before_what_they_hold() -> None:
    paths = [entry.path for entry in pack.read_newc(pack.write_newc([*ENTRIES, pack.regular("bin-x", b"")]))]
    for path in paths:
        for parent in Path(path).parents:
            assert str(parent) == "." or paths.index(str(parent)) < paths.index(path)


@pytest.mark.parametrize("size", range(9))
def test_names_and_data_of_any_length_are_padded(size: int) -> None:
    entries = [pack.regular("n" * (size + 1), bytes(range(size))), pack.regular("zz", b"after")]
    archive = pack.write_newc(entries)
    assert pack.read_newc(archive) == sorted(entries)
    assert len(archive) % pack.ARCHIVE_ALIGNMENT == 0


def test_header_fields_are_fixed() -> None:
    archive = pack.write_newc([pack.regular("a", b"xyz", 0o600)])
    # The layout of the kernel's buffer-format.rst: inode, mode, uid, gid, links, mtime, size, 4 device numbers, name
    # size, check.
    fields = "00000001 00008180 00000000 00000000 00000001 00000000 00000003 " + "00000000 " * 4 + "00000002 00000000"
    assert archive.startswith(b"070701" + fields.replace(" ", "").encode() + b"a\0" + b"xyz\0" + b"070701")


def test_system_cpio_reads_the_archive(tmp_path: Path) -> None:
    cpio = shutil.which("cpio")
    assert cpio is not None, "cpio is needed (Debian: apt install cpio); .ci/run installs it"
    listing = subprocess.run([cpio, "-it"], input=pack.write_newc(ENTRIES), capture_output=True, check=True)
    listed = listing.stdout.split()
    # The eighth name is not ASCII: cpio shows it as its locale pleases.
    assert listed[:7] == [b"bin", b"bin/alias", b"bin/tool", b"dev", b"dev/null", b"etc", b"etc/empty"]
    assert len(listed) == 8


@pytest.mark.parametrize("path", ["", "/abs", "a/../b", "./a", "a//b", "a/", ".", "..", "TRAILER!!!"])
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(pack.PackError, match="not a plain relative path"):
        pack.write_newc([pack.regular(path, b"")])


def test_contradictions_are_refused() -> None:
    with pytest.raises(pack.PackError, match="given twice"):
        pack.write_newc([pack.regular("a", b"1"), pack.regular("a", b"2")])
    with pytest.raises(pack.PackError, match="is not a directory"):
        pack.write_newc([pack.regular("a", b""), pack.regular("a/b", b"")])


@pytest.mark.parametrize("cut", [0, 50, 111, 300])
def test_truncated_archive_is_refused(cut: int) -> None:
    with pytest.raises(pack.PackError):
        pack.read_newc(pack.write_newc(ENTRIES)[:cut])


def test_gzip_has_a_fixed_header_and_inflates() -> None:
    packed = pack.gzip_fixed(b"content" * 1000)
    assert packed[:10] == pack.GZIP_HEADER
    assert gzip.decompress(packed) == b"content" * 1000


def test_command_packs_files_and_a_tree(tmp_path: Path) -> None:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "motd").write_text("hi\n")
    (tmp_path / "tree" / "link").symlink_to("etc/motd")
    (tmp_path / "program").write_bytes(b"program")
    (tmp_path / "program").chmod(0o700)
    out = tmp_path / "out.cpio"
    arguments = [out, "--init", tmp_path / "program", "--tree", tmp_path / "tree"]
    arguments += ["--file", f"/bin/again={tmp_path / 'program'}"]
    assert pack.main([str(argument) for argument in arguments]) == 0
    entries = {entry.path: entry for entry in pack.read_newc(out.read_bytes())}
    assert entries["etc/motd"].data == b"hi\n"
    assert entries["link"] == pack.symlink("link", "etc/motd")
    assert entries["bin/again"] == pack.regular("bin/again", b"program", 0o755)
    assert entries["init"].data == b"program"


def test_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack.main([str(tmp_path / "out"), "--init", str(tmp_path / "missing")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pack.py: ")
    assert said.count("\n") == 1
