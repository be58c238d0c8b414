"""Where the guest images that come with cc-tui are: guest/images in a checkout, package data in a wheel;
and where decompressed ones are kept.

Knows names and places only; what an image is and how it was built stands in its directory's manifest.json.
"""

from __future__ import annotations

import os

from .errors import UsageError

DEFAULT_KERNEL = "vmlinux-6.1"
DEFAULT_INITRD = "hello.cpio"
ALIASES = {
    "vmlinux": DEFAULT_KERNEL,
    "hello": DEFAULT_INITRD,
    "tools": "tools.cpio",
    "raft": "raft.cpio",
    "disk": "empty.ext4",
}
"""Short names that outlive a version."""

_SUFFIX = ".zst"


def images_dir() -> str:
    """The directory of the images. Raises UsageError where there is none."""
    here = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.join(os.path.dirname(os.path.dirname(here)), "guest", "images")
    for path in (checkout, os.path.join(here, "images")):
        if os.path.isfile(os.path.join(path, "manifest.json")):
            return path
    raise UsageError("the guest images are missing", where=checkout, hint="install cc-tui again, or: make images")


def cache_dir() -> str:
    """Where decompressed images are kept (XDG base directory specification). May not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification: relative paths are ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "cc-tui", "images")


def image_names() -> list[str]:
    """The names that image_path() knows, aliases excepted."""
    return sorted(name.removesuffix(_SUFFIX) for name in os.listdir(images_dir()) if name.endswith(_SUFFIX))


def image_path(name: str) -> str:
    """The file of an image, zstd-compressed, by its name or alias. Raises UsageError for an unknown one."""
    path = os.path.join(images_dir(), ALIASES.get(name, name) + _SUFFIX)
    if not os.path.isfile(path):
        known = ", ".join([*ALIASES, *image_names()])
        raise UsageError(f"there is no guest image {name!r}", hint=f"known are: {known}")
    return path


def kernel_symbols_path(kernel: str) -> str:
    """The file that has the symbols of a kernel's file: itself, or of the included kernel what stands beside it."""
    is_included = os.path.basename(kernel).removesuffix(_SUFFIX) == DEFAULT_KERNEL
    return image_path(f"{DEFAULT_KERNEL}.sym") if is_included else kernel
