"""The committed guest images: build them, check that they can be built again, verify what is there.

    python3 -m guest.images build [--only NAME ...]    rebuild into guest/images (what `make images` calls)
    python3 -m guest.images check [--only NAME ...]    rebuild elsewhere and say whether the bits are the same
    python3 -m guest.images verify                     do the files match the manifest, and it its sources?

Exit codes: 0 yes; 1 no, something differs; 2 could not tell, because something is missing.

Images are stored zstd-compressed with a manifest of hashes, sources, licences and build commands. What a build makes
is judged by the hash of the uncompressed bytes: a newer zstd may pack the same image differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from chaoscontrol import initramfs
from guest import toolchain
from guest.kernel import build as kernel
from guest.programs import build as programs
from guest.toolchain import BuildError

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path(__file__).resolve().parent / "images"
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
ZSTD_LEVEL = 19
UNCOMPRESSED_BYTES_MAX = 1 << 30
"""No image is larger; a damaged frame header must not allocate what it pleases."""
TOTAL_BYTES_MAX = 5_000_000
"""What all images together may weigh in the repository."""

LICENCE_KERNEL = "GPL-2.0-only WITH Linux-syscall-note"
LICENCE_PROGRAM = "Apache-2.0 AND MIT"
"""Our program, linked with musl (MIT)."""
LICENCE_BUSYBOX = "GPL-2.0-only"
"""Debian's busybox-static: its corresponding source is Debian's source package of the version in the manifest."""

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "[ arping awk base64 basename blkdiscard blockdev cat chmod cmp cp cut date dc dd devmem df dirname dmesg du echo "
    "env expr fallocate false find free fsfreeze fstrim fuser grep head hexdump hostname hwclock id ifconfig ip kill "
    "killall ln ls md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nproc od pgrep pidof ping pkill poweroff "
    "printf ps pwd readlink reboot reset rm rmdir route sed seq setsid sh sha256sum sleep sort stat strings stty sync "
    "sysctl tail tar taskset tee telnet test time timeout top touch tr traceroute true truncate tty umount uname uniq "
    "uptime usleep vi watch wc wget which xargs xxd yes"
)
"""What the tools image offers by name; `busybox NAME` runs the others. Every link costs the boot some thousands of
instructions."""

RAFT_RESPAWN_MS = 100
"""After a signal killed the program: its machine lives on, and init starts it again."""

DISK_BYTES = 32 << 20
DISK_UUID = "63632d74-7569-4000-8000-646174610001"
DISK_HASH_SEED = "63632d74-7569-4000-8000-646174610002"
DISK_FEATURES = (
    "none,has_journal,extent,filetype,dir_index,sparse_super,large_file,huge_file,dir_nlink,extra_isize,ext_attr,"
    "flex_bg,metadata_csum"
)
"""ext4 as it usually is, with checksums (a corrupted block is noticed), and without what only large disks need."""


@dataclass(frozen=True)
class Recipe:
    """One thing that is built, and the images that come of it."""

    name: str
    make: Callable[[Path, int], dict[str, bytes]]
    """Build in a directory with a number of jobs; the uncompressed images by their file name."""
    inputs: Callable[[], list[Path]]
    """What the image is made of in this repository. The build scripts decide the bits as well, but only `check` can
    tell a comment in them from a flag."""
    packages: tuple[str, ...]
    """Debian packages whose source or code is in the result."""
    licence: str
    images: dict[str, str]
    """File name to what it is."""


def _make_kernel(work: Path, jobs: int) -> dict[str, bytes]:
    kernel.build(work, work / "tree", jobs)
    return {
        "vmlinux-6.1": (work / "vmlinux").read_bytes(),
        "vmlinux-6.1.sym": (work / "vmlinux.sym").read_bytes(),
    }


def _make_hello(work: Path, jobs: int) -> dict[str, bytes]:
    del jobs  # one compiler run
    programs.build("hello", work)
    return {
        "hello.cpio": initramfs.bootable((work / "hello").read_bytes()),
        "hello.sym": (work / "hello.sym").read_bytes(),
    }


def guest_files(work: Path) -> list[initramfs.Entry]:
    """What an image of several programs carries besides its own: the agent. Its /init is make_init()'s."""
    programs.build("agent", work)
    return [initramfs.regular("sbin/cc-agent", (work / "agent").read_bytes(), 0o755)]


def make_init(work: Path) -> bytes:
    """The program that mounts, starts the agent and then what /etc/cc-run or the command line name."""
    programs.build("init", work)
    return (work / "init").read_bytes()


def guest_inputs(*names: str) -> list[Path]:
    """The sources of programs, and of those that every image of several programs carries."""
    return sorted({path for name in ("init", "agent", *names) for path in programs.inputs(name)})


def _make_tools(work: Path, jobs: int) -> dict[str, bytes]:
    del jobs
    toolchain.require_packages()
    programs.build("cc-sdk", work)
    files = [
        *guest_files(work),
        initramfs.directory("data"),  # where init mounts the disk
        initramfs.regular("bin/cc-sdk", (work / "cc-sdk").read_bytes(), 0o755),
        initramfs.regular("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        *(initramfs.symlink(f"bin/{applet}", "busybox") for applet in _applets()),
    ]
    return {"tools.cpio": initramfs.bootable(make_init(work), files)}


def _applets() -> list[str]:
    """Those of APPLETS that this busybox has."""
    known = set(toolchain.run([str(BUSYBOX), "--list"]).split())
    return [applet for applet in APPLETS.split() if applet in known]


def _make_raft(work: Path, jobs: int) -> dict[str, bytes]:
    del jobs
    programs.build("raft", work)
    files = [
        *guest_files(work),
        initramfs.regular("raft", (work / "raft").read_bytes(), 0o755),
        initramfs.regular("etc/cc-run", f"/raft\n{RAFT_RESPAWN_MS}\n".encode()),
    ]
    return {"raft.cpio": initramfs.bootable(make_init(work), files), "raft.sym": (work / "raft.sym").read_bytes()}


def _make_disk(work: Path, jobs: int) -> dict[str, bytes]:
    del jobs
    toolchain.require_packages()
    image = work / "empty.ext4"
    image.write_bytes(bytes(DISK_BYTES))
    # Everything is written now: a kernel that finds tables to initialise does so in the background for a minute.
    extended = f"hash_seed={DISK_HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
    format_disk = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "1024", "-m", "0"]
    toolchain.run(
        [*format_disk, "-J", "size=4", "-O", DISK_FEATURES, "-U", DISK_UUID, "-L", "data", "-E", extended, str(image)]
    )
    return {"empty.ext4": image.read_bytes()}


RECIPES = (
    Recipe(
        "kernel",
        _make_kernel,
        kernel.inputs,
        (toolchain.KERNEL_PACKAGE,),
        LICENCE_KERNEL,
        {
            "vmlinux-6.1": "Linux kernel, an ELF file to be entered at its 64-bit entry point",
            "vmlinux-6.1.sym": "symbols of that kernel: .symtab and .debug_frame in an ELF file of empty sections",
        },
    ),
    Recipe(
        "hello",
        _make_hello,
        lambda: programs.inputs("hello"),
        ("musl-dev",),
        LICENCE_PROGRAM,
        {
            "hello.cpio": "initramfs with the program hello as /init",
            "hello.sym": "symbols and line tables of /init",
        },
    ),
    Recipe(
        "tools",
        _make_tools,
        lambda: guest_inputs("cc-sdk"),
        ("musl-dev", toolchain.BUSYBOX_PACKAGE),
        f"{LICENCE_PROGRAM} AND {LICENCE_BUSYBOX}",
        {"tools.cpio": "initramfs with busybox, cc-sdk and the guest agent; runs cc.run= of the command line"},
    ),
    Recipe(
        "raft",
        _make_raft,
        lambda: guest_inputs("raft"),
        ("musl-dev",),
        LICENCE_PROGRAM,
        {
            "raft.cpio": "initramfs with one node of a replicated key-value store, and the guest agent",
            "raft.sym": "symbols and line tables of /raft",
        },
    ),
    Recipe(
        "disk",
        _make_disk,
        list,
        (toolchain.DISK_PACKAGE,),
        "CC0-1.0",
        {"empty.ext4": "an empty ext4 file system of 32 MiB"},
    ),
)


# --- one image ---------------------------------------------------------------------------------------------------


def compress(data: bytes) -> bytes:
    """A zstd frame that knows its content's size, so that a reader can allocate once."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(data)


def decompress(frame: bytes) -> bytes:
    """The content of a frame made by compress(). Raises BuildError if it is damaged or too large."""
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= UNCOMPRESSED_BYTES_MAX:
            raise BuildError(f"the frame says it holds {size} bytes")
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise BuildError(f"not a whole zstd frame: {error}") from error


def fingerprint(data: bytes) -> dict[str, str | int]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _input_hashes(recipe: Recipe) -> dict[str, str]:
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in recipe.inputs()
    }


# --- the manifest ------------------------------------------------------------------------------------------------


def read_manifest(images: Path = IMAGES) -> dict[str, Any]:
    path = images / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: {error}") from error
    if manifest.get("format") != MANIFEST_FORMAT:
        raise BuildError(f"{path}: format {manifest.get('format')}, expected {MANIFEST_FORMAT}")
    return manifest


def write_manifest(manifest: dict[str, Any], images: Path = IMAGES) -> None:
    (images / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _describe(recipe: Recipe, made: dict[str, bytes]) -> dict[str, Any]:
    """The manifest's entry for what a recipe made."""
    assert made.keys() == recipe.images.keys()
    return {
        "licence": recipe.licence,
        "build": f"python3 -m guest.images build --only {recipe.name}",
        "packages": {package: toolchain.package_version(package) for package in recipe.packages},
        "toolchain": {
            **{package: toolchain.package_version(package) for package in toolchain.VERSIONED_PACKAGES},
            **{f"{program} --version": banner for program, banner in toolchain.compiler_banners().items()},
        },
        "inputs": _input_hashes(recipe),
        "images": {
            name: {
                "about": recipe.images[name],
                "file": f"{name}.zst",
                "compressed": fingerprint(compress(data)),
                "uncompressed": fingerprint(data),
            }
            for name, data in made.items()
        },
    }


# --- the three commands ------------------------------------------------------------------------------------------


def build(recipes: Iterable[Recipe], jobs: int) -> int:
    IMAGES.mkdir(exist_ok=True)
    manifest: dict[str, Any] = {"format": MANIFEST_FORMAT, "recipes": {}}
    if (IMAGES / MANIFEST).exists():
        manifest = read_manifest()
    for recipe in recipes:
        made = _make(recipe, jobs)
        for name, data in made.items():
            frame = compress(data)
            assert decompress(frame) == data
            (IMAGES / f"{name}.zst").write_bytes(frame)
            print(f"{name}.zst: {len(frame)} bytes, {len(data)} unpacked")
        manifest["recipes"][recipe.name] = _describe(recipe, made)
    write_manifest(manifest)
    return 0


def check(recipes: Iterable[Recipe], jobs: int) -> int:
    """Build again and compare. Says for each image whether it is bit-identical, and if not, what may be why."""
    manifest = read_manifest()
    different = False
    for recipe in recipes:
        then = manifest["recipes"].get(recipe.name)
        if then is None:
            raise BuildError(f"{recipe.name}: not in the manifest; run: {_build_command(recipe)}")
        now = _describe(recipe, _make(recipe, jobs))
        for name, image in now["images"].items():
            same = image["uncompressed"] == then["images"][name]["uncompressed"]
            print(f"{name}: {'bit-identical' if same else 'DIFFERS'}")
            different |= not same
        for reason in _changes(then, now):
            print(f"  note: {reason}")
    return 1 if different else 0


def verify(images: Path = IMAGES) -> list[str]:
    """What is wrong with the committed images: empty if every file is what the manifest says it is."""
    manifest = read_manifest(images)
    wrong: list[str] = []
    listed = {MANIFEST}
    for recipe in RECIPES:
        then = manifest["recipes"].get(recipe.name, {"images": {}, "inputs": {}})
        for name in sorted(recipe.images.keys() - then["images"].keys()):
            wrong.append(f"{name}: not in the manifest; run: {_build_command(recipe)}")
        for name, image in then["images"].items():
            listed.add(image["file"])
            wrong += [f"{name}: {problem}" for problem in _image_problems(images / image["file"], image)]
        if then["inputs"] != _input_hashes(recipe):
            wrong.append(f"{recipe.name}: its sources changed since it was built; run: {_build_command(recipe)}")
    present = {path.name for path in images.iterdir()}
    wrong += [f"{name}: no entry in the manifest" for name in sorted(present - listed)]
    total_bytes = sum(path.stat().st_size for path in images.iterdir())
    if total_bytes > TOTAL_BYTES_MAX:
        wrong.append(f"{images}: {total_bytes} bytes, more than {TOTAL_BYTES_MAX}")
    return wrong


def _image_problems(path: Path, image: dict[str, Any]) -> list[str]:
    if not path.exists():
        return [f"{path} is missing"]
    frame = path.read_bytes()
    if fingerprint(frame) != image["compressed"]:
        return [f"{path} is not the file of the manifest"]
    try:
        same = fingerprint(decompress(frame)) == image["uncompressed"]
    except BuildError as error:
        return [str(error)]
    return [] if same else [f"{path} does not unpack to the image of the manifest"]


def _changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two builds of one recipe besides the result."""
    return [
        f"{what} is {now[group].get(what)}, the manifest's is {then[group].get(what)}"
        for group in ("packages", "toolchain", "inputs")
        for what in sorted(then[group].keys() | now[group].keys())
        if then[group].get(what) != now[group].get(what)
    ]


def _make(recipe: Recipe, jobs: int) -> dict[str, bytes]:
    print(f"building {recipe.name} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix=f"guest-{recipe.name}-") as work:
        return recipe.make(Path(work), jobs)


def _build_command(recipe: Recipe) -> str:
    return f"python3 -m guest.images build --only {recipe.name}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m guest.images", description="The committed guest images.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("build", "rebuild into guest/images"), ("check", "rebuild and compare the bits")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--only", action="append", choices=[recipe.name for recipe in RECIPES])
        command.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    commands.add_parser("verify", help="compare the files with the manifest, and the manifest with the sources")
    options = parser.parse_args(arguments)
    try:
        if options.command == "verify":
            wrong = verify()
            print("\n".join(wrong) if wrong else "every image is what the manifest says")
            return 1 if wrong else 0
        recipes = [recipe for recipe in RECIPES if options.only is None or recipe.name in options.only]
        return (build if options.command == "build" else check)(recipes, options.jobs)
    except (BuildError, OSError) as error:
        print(f"guest.images: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
