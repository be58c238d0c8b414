"""The file that gdb takes a kernel's symbols from: the kernel itself, or what stands beside the included one."""

from __future__ import annotations

import os
import shlex
import tempfile

from chaoscontrol.images import DEFAULT_KERNEL, cache_dir, kernel_symbols_path
from chaoscontrol.loader import read_source


def symbol_file(kernel: str) -> str:
    """An ELF file with the symbols of `kernel` (a path, or an included image's file name). Raises UsageError.

    The included kernel's are inflated into the cache.
    """
    source = kernel_symbols_path(kernel)
    if source == kernel:
        return kernel
    _, data = read_source(source, "symbols")
    path = os.path.join(cache_dir(), f"{DEFAULT_KERNEL}.sym")
    os.makedirs(cache_dir(), exist_ok=True)
    descriptor, made = tempfile.mkstemp(dir=cache_dir(), prefix=f".{DEFAULT_KERNEL}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise
    return path


def gdb_line(kernel: str, port: int) -> str:
    """The command that connects gdb."""
    words = ["gdb", *([symbol_file(kernel)] if kernel else []), "-ex", f"target remote :{port}"]
    return shlex.join(words)


__all__ = ["gdb_line", "symbol_file"]
