"""Names for addresses: the symbols of a kernel, looked up by address."""

from bisect import bisect_right

from chaoscontrol.errors import UsageError
from chaoscontrol.images import DEFAULT_KERNEL, image_path
from chaoscontrol.loader import Symbol, symbols

GAP_MAX = 1 << 20
"""An address further than this behind a symbol of no size is not part of it."""


class SymbolTable:
    """Symbols in the order of their addresses."""

    def __init__(self, found: list[Symbol]) -> None:
        self._symbols = found
        self._addresses = [symbol.address for symbol in found]

    def name(self, address: int) -> str:
        """`schedule+0x1a`, or the empty string."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0:
            return ""
        symbol = self._symbols[at]
        offset = address - symbol.address
        if offset >= (symbol.size or GAP_MAX):
            return ""
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name


def load_symbols(kernel: str) -> SymbolTable:
    """The symbols of a kernel file; of the included one, those that stand beside it. Empty if there are none."""
    try:
        found = symbols(image_path(f"{DEFAULT_KERNEL}.sym") if kernel == image_path(DEFAULT_KERNEL) else kernel)
    except UsageError:
        found = []
    return SymbolTable(found)
