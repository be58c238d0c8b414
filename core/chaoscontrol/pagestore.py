"""PageStore and Snapshot: memory that states are kept in, and the states.

Owns the lifetime of the native store: it is freed after its last machine and snapshot, in whatever order Python
collects them.
"""

from __future__ import annotations

from ._binding import ffi, lib
from .errors import EngineError, UsageError
from .values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._native import CData
    from .config import VmConfig


class PageStore:
    """The memory that snapshots are kept in, shared by any number of machines.

    budget_bytes: what it may hold; a snapshot that would pass it raises BudgetError. None: no limit.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        if budget_bytes is not None and budget_bytes <= 0:
            raise UsageError(
                f"a snapshot budget of {budget_bytes} bytes", hint="give more than 0, or None for no limit"
            )
        self._native = lib.cc_store_new(budget_bytes or 0)
        if not self._native:
            raise EngineError("the host refused memory for a page store")
        # One entry per user and one for this object: machines and snapshots may be finalised after it, in any order.
        # list.append and list.pop are atomic, so this needs no lock; a lock could deadlock in a finaliser.
        self._users: list[bool] = [True]

    def retain_native(self) -> CData:
        self._users.append(False)
        return self._native

    def release_native(self) -> None:
        if self._users.pop():
            lib.cc_store_free(self._native)

    def __del__(self) -> None:
        if getattr(self, "_users", None):
            self.release_native()

    @property
    def bytes_held(self) -> int:
        """Bytes held now: pages, tables and saved states."""
        return lib.cc_store_bytes(self._native)

    @property
    def bytes_lent(self) -> int:
        """Of `bytes_held`: reserved for pages whose contents are still in machines' RAM, and no host memory yet."""
        return lib.cc_store_lent_bytes(self._native)

    @property
    def budget_bytes(self) -> int | None:
        """The limit, or None. Setting it below what is held frees nothing, but refuses further snapshots."""
        return lib.cc_store_budget(self._native) or None

    @budget_bytes.setter
    def budget_bytes(self, value: int | None) -> None:
        lib.cc_store_set_budget(self._native, value or 0)


class Snapshot:
    """The complete state of a machine at one moment. Freed when it is collected, or by close()."""

    def __init__(self, native: CData, store: PageStore, config: VmConfig) -> None:
        self._native = native
        self._store = store
        store.retain_native()
        self.config = config
        """The configuration of the machine that it was taken of."""

    def use_native(self) -> CData:
        if self._native is None:
            raise EngineError("the snapshot is closed")
        return self._native

    @property
    def instret(self) -> int:
        return lib.cc_snapshot_instret(self.use_native())

    @property
    def vns(self) -> int:
        return lib.cc_snapshot_vns(self.use_native())

    @property
    def digest(self) -> Digest:
        """The state digest at the snapshot's moment."""
        out = ffi.new("cc_digest *")
        lib.cc_snapshot_digest(self.use_native(), out)
        return Digest(out.hi << 64 | out.lo)

    @property
    def exclusive_bytes(self) -> int:
        """Bytes of the page store that only this snapshot uses: what closing it would give back."""
        return lib.cc_snapshot_exclusive_bytes(self.use_native())

    def close(self) -> None:
        """Frees the snapshot; does nothing the second time."""
        native, self._native = self._native, None
        if native is not None:
            lib.cc_snapshot_free(native)
            self._store.release_native()

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.close()

    def __repr__(self) -> str:
        if self._native is None:
            return "<Snapshot closed>"
        return f"<Snapshot instret={self.instret} vns={self.vns} digest={self.digest}>"
