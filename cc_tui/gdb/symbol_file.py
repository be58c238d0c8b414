"""The file that gdb takes a kernel's symbols from: the kernel itself, or what stands beside the included one."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from chaoscontrol.images import DEFAULT_KERNEL, cache_dir, kernel_symbols_path
from chaoscontrol.loader import read_source


def symbol_file(kernel: str) -> str:
    """An ELF file with the symbols of `kernel` (a path, or an included image's file name). Raises UsageError.

    What gdb cannot read is inflated into the cache: the included kernel's symbols, a compressed kernel.
    """
    source = kernel_symbols_path(kernel)
    _, data = read_source(source, "symbols")
    if source != kernel:
        return _keep(f"{DEFAULT_KERNEL}.sym", bytes(data))
    with Path(kernel).open("rb") as file:
        is_plain = file.read(4) == data[:4]
    return kernel if is_plain else _keep(f"{os.path.basename(kernel)}.elf", bytes(data))


def _keep(name: str, data: bytes) -> str:
    path = os.path.join(cache_dir(), name)
    os.makedirs(cache_dir(), exist_ok=True)
    descriptor, made = tempfile.mkstemp(dir=cache_dir(), prefix=f".{name}.")
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
