"""Layouts of structures from BTF, the type information that a kernel built with CONFIG_DEBUG_INFO_BTF carries.

Format: Linux Documentation/bpf/btf.rst. Only structs, unions and what leads to them are read.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_STRUCT, _UNION, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 4, 5, 8, 9, 10, 11, 18
_SEEN_THROUGH = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)
_EXTRA_BYTES = {1: 4, 3: 12, 14: 4, 17: 4}
"""INT, ARRAY, VAR, DECL_TAG: what follows a type's head, whatever its vlen."""
_EXTRA_PER_MEMBER = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64."""
_TYPES_MAX = 1 << 21
_DEPTH_MAX = 16


class Btf:
    """One .BTF section. Raises UsageError for what is none."""

    def __init__(self, data: bytes) -> None:
        try:
            magic, version, _, header, type_at, type_size, text_at, text_size = _HEADER.unpack_from(data)
            if magic != _MAGIC or version != 1:
                raise ValueError("no BTF of version 1")
            self._text = data[header + text_at : header + text_at + text_size]
            self._types = data[header + type_at : header + type_at + type_size]
            self._at = self._index()
        except (struct.error, ValueError, LookupError) as e:
            raise UsageError(f"its type information cannot be read ({e})", where=".BTF") from None

    def _index(self) -> list[int]:
        """Where each type is, by its number; 0 is void."""
        places, at = [0], 0
        while at < len(self._types):
            if len(places) > _TYPES_MAX:
                raise ValueError("too many types")
            _, info, _ = _TYPE.unpack_from(self._types, at)
            places.append(at)
            kind = info >> 24 & 0x1F
            at += _TYPE.size + _EXTRA_BYTES.get(kind, 0) + _EXTRA_PER_MEMBER.get(kind, 0) * (info & 0xFFFF)
        return places

    def _name(self, at: int) -> str:
        return self._text[at : self._text.index(b"\0", at)].decode(errors="replace")

    def layouts(self, wanted: Iterable[str]) -> dict[str, dict[str, int]]:
        """Per struct its members' offsets in bytes, nested ones as `a.b`, and under "" its size.

        Structs that it does not have are left out, and so are bit fields.
        """
        names, found = set(wanted), dict[str, dict[str, int]]()
        try:
            for at in self._at[1:]:
                name, info, size = _TYPE.unpack_from(self._types, at)
                if info >> 24 & 0x1F == _STRUCT and (text := self._name(name)) in names and text not in found:
                    members = {"": size}
                    self._members(at, 0, "", members, 0)
                    found[text] = members
        except (struct.error, ValueError, LookupError) as e:
            raise UsageError(f"its type information cannot be read ({e})", where=".BTF") from None
        return found

    def _members(self, at: int, base: int, prefix: str, out: dict[str, int], depth: int) -> None:
        _, info, _ = _TYPE.unpack_from(self._types, at)
        for i in range(info & 0xFFFF):
            name, kind, bits = _MEMBER.unpack_from(self._types, at + _TYPE.size + i * _MEMBER.size)
            if info >> 31:
                if bits >> 24:
                    continue
                bits &= 0xFFFFFF
            text = self._name(name)
            offset = base + bits // 8
            if text:
                out.setdefault(prefix + text, offset)
            inner = self._aggregate(kind)
            if inner is not None and depth < _DEPTH_MAX:
                self._members(inner, offset, f"{prefix}{text}." if text else prefix, out, depth + 1)

    def _aggregate(self, kind: int) -> int | None:
        """Where the struct or union is that a type is, by itself or by typedefs and qualifiers."""
        for _ in range(_DEPTH_MAX):
            if not 0 < kind < len(self._at):
                return None
            _, info, target = _TYPE.unpack_from(self._types, self._at[kind])
            what = info >> 24 & 0x1F
            if what in (_STRUCT, _UNION):
                return self._at[kind]
            if what not in _SEEN_THROUGH:
                return None
            kind = target
        return None
