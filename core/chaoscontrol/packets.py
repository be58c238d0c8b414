"""What a frame is, in one line: addresses, ports, flags, numbers, where its data begin. Whatever a guest sends is read.

Layouts: Ethernet II; ARP, RFC 826; IPv4, RFC 791; ICMP, RFC 792; TCP, RFC 9293; UDP, RFC 768. (Own code: dpkt has had
no release since 2022 and raises what it likes on hostile frames, scapy takes longer to import than cc-tui to start.)
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ETHERNET_BYTES = 14
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP = 1, 6, 17
PAYLOAD_SHOWN = 24
"""Bytes of data that a line shows."""
_IP_BYTES_MIN, _ARP_BYTES, _TCP_BYTES_MIN, _UDP_BYTES, _ICMP_BYTES = 20, 28, 20, 8, 8
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_ICMP_TYPES = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
_FRAGMENT = 0x1FFF
"""The offset's bits: only the first fragment has the header of what is above."""


class Packet(NamedTuple):
    """A frame as a person knows it."""

    summary: str
    payload: bytes = b""
    """Above the transport protocol; empty for what only keeps a connection going."""

    def __str__(self) -> str:
        return f"{self.summary} {shown(self.payload)}" if self.payload else self.summary


def read_packet(frame: bytes) -> Packet:
    """Takes a frame apart, as far as it goes."""
    if len(frame) < ETHERNET_BYTES:
        return Packet(f"{len(frame)} bytes, no Ethernet frame")
    (kind,) = struct.unpack_from(">H", frame, 12)
    body = frame[ETHERNET_BYTES:]
    if kind == IPV4:
        return _ipv4(body)
    if kind == ARP:
        return Packet(_arp(body))
    name = "IPv6" if kind == IPV6 else f"Ethernet type {kind:#06x}"
    return Packet(f"{name} len {len(body)}")


def payload_at(frame: bytes) -> int | None:
    """Where in a frame its payload begins; None if it has none."""
    payload = read_packet(frame).payload
    return ETHERNET_BYTES + int.from_bytes(frame[16:18]) - len(payload) if payload else None


def shown(data: bytes) -> str:
    """The beginning of some data, in characters that no terminal takes for a command."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[:PAYLOAD_SHOWN])
    return f"'{text}'" + ("..." if len(data) > PAYLOAD_SHOWN else "")


def _arp(body: bytes) -> str:
    if len(body) < _ARP_BYTES:
        return "ARP, cut off"
    operation, sender, target = int.from_bytes(body[6:8]), _address(body[14:18]), _address(body[24:28])
    return f"ARP who has {target}, says {sender}" if operation == 1 else f"ARP {sender} is here"


def _address(data: bytes) -> str:
    return ".".join(map(str, data))


def _ipv4(body: bytes) -> Packet:
    if len(body) < _IP_BYTES_MIN:
        return Packet("IPv4, cut off")
    header, total, fragment = (body[0] & 15) * 4, int.from_bytes(body[2:4]), int.from_bytes(body[6:8]) & _FRAGMENT
    if header < _IP_BYTES_MIN or not header <= total <= len(body):
        return Packet("IPv4 with lengths that cannot be")
    source, target, inside = _address(body[12:16]), _address(body[16:20]), body[header:total]
    if fragment:
        return Packet(f"IPv4 {source} > {target} fragment len {len(inside)}", inside)
    protocol = body[9]
    if protocol == TCP and len(inside) >= _TCP_BYTES_MIN:
        return _tcp(source, target, inside)
    if protocol == UDP and len(inside) >= _UDP_BYTES:
        ports, payload = struct.unpack_from(">HH", inside), inside[_UDP_BYTES:]
        return Packet(f"UDP {source}:{ports[0]} > {target}:{ports[1]} len {len(payload)}", payload)
    if protocol == ICMP and len(inside) >= _ICMP_BYTES:
        kind, payload = inside[0], inside[_ICMP_BYTES:]
        what = _ICMP_TYPES.get(kind, f"type {kind}")
        number = f" seq {int.from_bytes(inside[6:8])}" if kind in (0, 8) else ""
        return Packet(f"ICMP {source} > {target} {what}{number} len {len(payload)}", payload)
    return Packet(f"IPv4 {source} > {target} protocol {protocol} len {len(inside)}", inside)


def _tcp(source: str, target: str, segment: bytes) -> Packet:
    from_port, to_port, seq, ack = struct.unpack_from(">HHII", segment)
    header, bits = (segment[12] >> 4) * 4, segment[13]
    payload = segment[header:] if header >= _TCP_BYTES_MIN else b""
    flags = " ".join(name for at, name in enumerate(_TCP_FLAGS) if bits >> at & 1)
    numbers = f"seq {seq} ack {ack} len {len(payload)}"
    return Packet(f"TCP {source}:{from_port} > {target}:{to_port} [{flags}] {numbers}", payload)


__all__ = ["Packet", "payload_at", "read_packet", "shown"]
