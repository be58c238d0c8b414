"""MachinePages: the state of one machine page by page, to say what differs between two.

Pages are of 4096 bytes: those of the memory by physical address, then those of the areas in which devices keep what is
large. All of them are in the machine's digest and snapshots; nothing here changes anything.
"""

from __future__ import annotations

from ._binding import ffi, lib
from .errors import AddressError
from .values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._native import CData
    from .config import VmConfig

PAGE_BYTES = 4096
DIGEST_BYTES = 16
AREAS = ("memory", "properties", "network", "disk cache", "disk")
"""What pages hold, by CC_AREA_*. The disk cache has the writes that no flush has followed, the disk those before."""


class MachinePages:
    """Digests of the machine that inherits this, whole and in parts."""

    config: VmConfig
    _digest: CData

    def _use(self) -> CData:
        """The native machine. Raises EngineError if it cannot be used now."""
        raise NotImplementedError

    def _check(self, code: int) -> None:
        """Raises the exception for a native error code."""
        raise NotImplementedError

    def digest(self) -> Digest:
        """128 bits over every page, register and device field, and the time."""
        lib.cc_digest_now(self._use(), self._digest)
        return self._take_digest()

    def page_digest(self, page: int) -> Digest:
        """The digest of the memory page with this number (physical address / 4096)."""
        if not 0 <= page < self.config.memory_bytes >> 12:
            raise AddressError(f"there is no page {page}", hint=f"pages end at {self.config.memory_bytes >> 12}")
        lib.cc_digest_page(self._use(), page, self._digest)
        return self._take_digest()

    def cpu_digest(self) -> Digest:
        """The digest of the registers."""
        lib.cc_digest_cpu(self._use(), self._digest)
        return self._take_digest()

    def device_digest(self) -> Digest:
        """The digest of the devices."""
        lib.cc_digest_devices(self._use(), self._digest)
        return self._take_digest()

    def _take_digest(self) -> Digest:
        return Digest(self._digest.hi << 64 | self._digest.lo)

    # ---- pages of all areas ----

    @property
    def page_count(self) -> int:
        """How many pages there are in all areas."""
        return lib.cc_page_count(self._use())

    def page_area(self, page: int) -> tuple[str, int]:
        """What a page is part of, of AREAS, and its number there. Raises AddressError."""
        at = ffi.new("uint64_t *")
        area = lib.cc_page_area(self._use(), page, at)
        if area < 0:
            raise AddressError(f"there is no page {page}", hint=f"pages end at {self.page_count}")
        return AREAS[area], at[0]

    def page_bytes(self, page: int) -> bytes:
        """What is in a page of any area. Raises UsageError."""
        buffer = ffi.new(f"uint8_t[{PAGE_BYTES}]")
        self._check(lib.cc_page_bytes(self._use(), page, buffer))
        return ffi.buffer(buffer)[:]

    def page_digests(self) -> bytes:
        """The digests of all pages of all areas, DIGEST_BYTES each."""
        digests = ffi.new("cc_digest[]", self.page_count)
        lib.cc_digest_pages(self._use(), digests)
        return ffi.buffer(digests)[:]

    def page_sketch(self) -> bytes:
        """Sums over all pages; the difference of two tells which pages differ: see timetravel/sketch.py."""
        sketch = ffi.new("cc_sketch *")
        lib.cc_sketch_now(self._use(), sketch)
        return ffi.buffer(sketch)[:]
