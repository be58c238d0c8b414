"""The symbols of the kernel that a session runs: of the included one, those that stand beside it."""

from chaoscontrol.errors import UsageError
from chaoscontrol.images import DEFAULT_KERNEL, image_path
from chaoscontrol.symbols.elf import read_symbols
from chaoscontrol.symbols.table import SymbolTable

__all__ = ["SymbolTable", "load_symbols"]


def load_symbols(kernel: str) -> SymbolTable:
    """The symbols of a kernel file, empty if there are none."""
    try:
        return read_symbols(image_path(f"{DEFAULT_KERNEL}.sym") if kernel == image_path(DEFAULT_KERNEL) else kernel)
    except UsageError:
        return SymbolTable(())
