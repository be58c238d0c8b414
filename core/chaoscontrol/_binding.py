"""The native library's binding: where it is imported, and how its error codes become exceptions."""

from __future__ import annotations

from .errors import AddressError, BudgetError, EngineError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

try:
    from ._native import ffi, lib
except ImportError as e:
    raise EngineError(
        f"the native library cannot be loaded ({e})", where="chaoscontrol._native", hint="build it with: make setup"
    ) from e


def raise_native(code: int, line: str) -> NoReturn:
    """Raises the exception for a native error code with its one-line message."""
    if code == lib.CC_EBUDGET:
        raise BudgetError(line, hint="free snapshots or raise the budget")
    if code == lib.CC_EINVAL:
        raise UsageError(line)
    if code == lib.CC_EFAULT:
        raise AddressError(line)
    raise EngineError(line)


__all__ = ["ffi", "lib", "raise_native"]
