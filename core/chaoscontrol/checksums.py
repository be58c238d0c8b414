"""Checksums of frames: what has to be written into one so that its receiver believes it.

The internet checksum is RFC 1071's; where it stands: IPv4, RFC 791; ICMP, RFC 792; TCP, RFC 9293; UDP, RFC 768.
"""

from __future__ import annotations

from .packets import ETHERNET_BYTES, ICMP, IPV4, TCP, UDP

_IP_BYTES_MIN, _IP_SUM_AT = 20, 10
_FRAGMENTED = 0x3FFF
"""More fragments, or an offset: what is above has its checksum over all of them."""
_SUM_AT = {TCP: 16, UDP: 6, ICMP: 2}
_HEADER_BYTES = {TCP: 20, UDP: 8, ICMP: 8}
_SUM_BYTES = 2


def corrections(frame: bytes) -> tuple[tuple[int, bytes], ...]:
    """(offset, bytes) of the checksums of an IPv4 frame that are wrong, as they would be right.

    None of other frames. A UDP checksum of 0, which says that there is none, is right.
    """
    ip = frame[ETHERNET_BYTES:]
    if frame[12:14] != IPV4.to_bytes(2) or len(ip) < _IP_BYTES_MIN:
        return ()
    header, total = (ip[0] & 15) * 4, int.from_bytes(ip[2:4])
    if header < _IP_BYTES_MIN or not header <= total <= len(ip):
        return ()
    wanted = {ETHERNET_BYTES + _IP_SUM_AT: _checksum(_without(ip[:header], _IP_SUM_AT))}
    protocol, inside = ip[9], ip[header:total]
    if not int.from_bytes(ip[6:8]) & _FRAGMENTED and len(inside) >= _HEADER_BYTES.get(protocol, len(inside) + 1):
        at = _SUM_AT[protocol]
        if protocol != UDP or any(inside[at : at + _SUM_BYTES]):
            pseudo = b"" if protocol == ICMP else ip[12:20] + bytes((0, protocol)) + len(inside).to_bytes(2)
            found = _checksum(pseudo + _without(inside, at))
            wanted[ETHERNET_BYTES + header + at] = b"\xff\xff" if protocol == UDP and not any(found) else found
    return tuple((at, right) for at, right in wanted.items() if frame[at : at + _SUM_BYTES] != right)


def _without(data: bytes, at: int) -> bytes:
    """The same with no checksum in it."""
    return data[:at] + bytes(_SUM_BYTES) + data[at + _SUM_BYTES :]


def _checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0")) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2)


__all__ = ["corrections"]
