"""How a Python process reaches the hypercall page: /dev/mem for the page, /dev/port for the port.

One page serves every process of the guest, so the word at 0x1C is a lock that holds the thread's id, as in the C SDK.
Python has no compare-and-swap: three instructions of machine code in a page of their own are one. A system call for
the port (instead of an OUT) works in every thread, whenever it was started.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import _wire
from ._wire import Call

LOCAL_OUTPUT = "CHAOSCONTROL_SDK_LOCAL_OUTPUT"
BRAND = b"cc-tui deterministic CPU"

# System V calling convention: mov eax, esi; lock cmpxchg [rdi], edx; ret. Returns what was there.
_SWAP_CODE = bytes.fromhex("89f0 f00fb117 c3")
_SPINS = 64
_SLEEP_S = 0.0001


def _is_machine() -> bool:
    """Whether the processor says that it is one of ours. Elsewhere the page is a PC's firmware."""
    try:
        return BRAND in Path("/proc/cpuinfo").read_bytes()
    except OSError:
        return False


class Machine:
    """The page and the port of this machine. Raises OSError where they cannot be opened."""

    def __init__(self) -> None:
        mem = os.open("/dev/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._page = mmap.mmap(mem, _wire.PAGE_BYTES, mmap.MAP_SHARED, offset=_wire.HYPERCALL_GPA)
        finally:
            os.close(mem)
        self._port = os.open("/dev/port", os.O_RDWR | os.O_CLOEXEC)
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_SWAP_CODE)
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
        self._swap: Callable[[int, int, int], int] = prototype(ctypes.addressof(ctypes.c_char.from_buffer(self._code)))
        self._owner = ctypes.c_uint32.from_buffer(self._page, _wire.OWNER_AT)
        self._owner_at = ctypes.addressof(self._owner)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, call: Call) -> int:
        """Hand a call to the host and return its answer."""
        payload = _wire.payload(call)
        header = _wire.header(call, len(payload))
        taken = self._take(threading.get_native_id())
        page = self._page
        # Somebody who interrupted this very thread finds the lock his own: he puts back what he overwrote.
        saved = (
            None if taken else (page[: _wire.OWNER_AT], page[_wire.HEADER_BYTES : _wire.HEADER_BYTES + len(payload)])
        )
        try:
            page[: len(header)] = header
            page[_wire.HEADER_BYTES : _wire.HEADER_BYTES + len(payload)] = payload
            os.pwrite(self._port, b"\0", _wire.SDK_PORT)
            (result,) = struct.unpack_from("<Q", page, _wire.RESULT_AT)
        finally:
            if saved is not None:
                page[: _wire.OWNER_AT] = saved[0]
                page[_wire.HEADER_BYTES : _wire.HEADER_BYTES + len(payload)] = saved[1]
            else:
                self._owner.value = 0
        return int(result)

    def coverage(self) -> mmap.mmap:
        """The coverage map, marked as used."""
        mem = os.open("/dev/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            found = mmap.mmap(mem, _wire.COVERAGE_BYTES, mmap.MAP_SHARED, offset=_wire.COVERAGE_GPA)
        finally:
            os.close(mem)
        os.pwrite(self._port, b"\0", _wire.COVERAGE_PORT)
        return found

    def _take(self, thread: int) -> bool:
        """True if the page was free; False if this thread holds it already."""
        tries = 0
        while True:
            owner = self._swap(self._owner_at, 0, thread)
            if owner == 0:
                return True
            if owner == thread:
                return False
            tries += 1
            if tries % _SPINS:
                os.sched_yield()
            elif self._is_dead(owner) and self._swap(self._owner_at, owner, thread) == owner:
                return True
            else:
                time.sleep(_SLEEP_S)

    def _is_dead(self, thread: int) -> bool:
        """Whether it has no memory any more: a zombie still takes signals."""
        byte = ctypes.create_string_buffer(1)
        here = (ctypes.c_size_t * 2)(ctypes.addressof(byte), 1)
        there = (ctypes.c_size_t * 2)(0, 1)
        done = self._libc.process_vm_readv(ctypes.c_int(thread), here, 1, there, 1, 0)
        return bool(done < 0 and ctypes.get_errno() == errno.ESRCH)


class Local:
    """Lines of JSON in a file, each written at once, so that processes may share it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def call(self, call: Call) -> int:
        os.write(self._file, _wire.line(call))
        return 0


class Nobody:
    """Nobody listens."""

    def call(self, call: Call) -> int:
        del call
        return 0


_channel: Machine | Local | Nobody | None = None


def channel() -> Machine | Local | Nobody:
    """Where calls go, found out once."""
    global _channel
    if _channel is None:
        _channel = _open()
    return _channel


def _open() -> Machine | Local | Nobody:
    path = os.environ.get(LOCAL_OUTPUT)
    try:
        if _is_machine():
            return Machine()
        return Local(path) if path else Nobody()
    except OSError as error:
        where = "the hypercall page" if error.filename in ("/dev/mem", "/dev/port") else f"{LOCAL_OUTPUT}={path}"
        print(f"chaoscontrol_sdk: {where}: {error.strerror}", file=sys.stderr)
        return Nobody()
