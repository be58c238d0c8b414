"""What the native library says without a machine: its version, lengths of instructions, whether KVM can be used."""

from __future__ import annotations

import os

from ._binding import ffi, lib


def kvm_unavailable(device: str | None = None) -> str | None:
    """Why this host's KVM cannot be used, in one line, or None if it can.

    device: the path of the KVM device; None is /dev/kvm.
    """
    message = ffi.new("char[512]")
    if lib.cc_kvm_probe(ffi.NULL if device is None else os.fsencode(device), message, 512) == lib.CC_OK:
        return None
    return ffi.string(message).decode(errors="replace")


def decode_length(code: bytes) -> int:
    """Length in bytes of the instruction at the start of `code`; 0 if it is undefined or incomplete."""
    return lib.cc_decode_length(code, min(len(code), 15))


def decode_lengths(code: bytes, stride: int = 1) -> bytes:
    """`decode_length` at every `stride`-th offset of `code`, one byte each; an instruction may run past its stride."""
    if stride < 1:
        raise ValueError(f"stride {stride}: must be at least 1 byte")
    lengths = bytearray(-(-len(code) // stride))
    lib.cc_decode_lengths(ffi.from_buffer(code), len(code), stride, ffi.from_buffer(lengths))
    return bytes(lengths)


def native_version() -> str:
    """The native library's version."""
    return ffi.string(lib.cc_version()).decode()


__all__ = ["decode_length", "decode_lengths", "kvm_unavailable", "native_version"]
