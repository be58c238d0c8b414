"""Aim: what a movement is for, when the instant is not known beforehand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aim:
    """Something that a machine reaches at an instant not known beforehand; give one of the last four."""

    machine: int | None
    """None: whichever is first, which only `text` can ask for."""
    console_total: int | None = None
    """Console bytes sent; they are in its log, or `text` says how they end."""
    text: bytes = b""
    """The last bytes sent, the last of them by somebody on the way."""
    instret: int | None = None
    """Instructions retired."""
    watch: bool = False
    """Something is met that the machine watches; an instruction that it is about to execute counts once."""


__all__ = ["Aim"]
