"""The symbols of the kernel that a session runs: of the included one, those that stand beside it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError
from chaoscontrol.images import kernel_symbols_path
from chaoscontrol.symbols.table import SymbolTable

if TYPE_CHECKING:
    from chaoscontrol.symbols.layout import Layout

__all__ = ["SymbolTable", "load_layout", "load_symbols"]


@functools.lru_cache(maxsize=1)
def load_symbols(kernel: str) -> SymbolTable:
    """The symbols of a kernel file, empty if there are none. Reading takes a while, and is done once."""
    from chaoscontrol.symbols.elf import ElfImage  # not needed to begin with
    from chaoscontrol.symbols.programs import binary_of

    try:
        return binary_of(ElfImage(kernel_symbols_path(kernel))).symbols
    except UsageError:
        return SymbolTable(())


@functools.lru_cache(maxsize=1)
def load_layout(kernel: str) -> Layout:
    """Where a kernel's structures have what. Raises UsageError."""
    from chaoscontrol.symbols.elf import ElfImage
    from chaoscontrol.symbols.layout import layout_of

    return layout_of(ElfImage(kernel))
