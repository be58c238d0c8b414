"""The committed guest images are what their manifest says."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # guest/ is a tool of the repository, not an installed package
    sys.path.insert(0, str(ROOT))

from chaoscontrol import initramfs  # noqa: E402
from guest import images, toolchain  # noqa: E402
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
    entries = {entry.path: entry for entry in initramfs.read_newc(images.decompress(_image("hello.cpio")))}
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
