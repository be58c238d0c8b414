"""What `export` does: a recording as JSON Lines, or what its network carried for Wireshark.

What the network carried is read where it was recorded; otherwise the history is lived through again, verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from cc_tui import diagnostics
from cc_tui.recordings import (
    check_span,
    event_dict,
    failure_dict,
    frame_dict,
    packets_sent,
    recording_dict,
    tell_progress,
)
from chaoscontrol.errors import UsageError
from chaoscontrol.pcap import wire_frames, write_pcap
from chaoscontrol.recording import RecordedBranch, Recording, load_recording, read_packets, replay_packets
from chaoscontrol.timetravel import describe

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.timetravel import GivenInput


@dataclasses.dataclass(frozen=True, slots=True)
class ExportOptions:
    """What was asked for."""

    form: str = "jsonl"
    """jsonl or pcap."""
    output: str | None = None
    """A file; None: stdout."""
    from_ns: int = 0
    to_ns: int | None = None
    branch: str | None = None
    """None: of JSON Lines all, of packets the first."""
    vm: int | None = None
    """Packets as this machine's interface saw them; None: as all senders did."""
    links: tuple[tuple[int, int], ...] = ()
    """Packets of these directions only, (sender, receiver); none: of all."""
    images: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()

    def holds(self, vns: int) -> bool:
        """Is it a time that was asked for?"""
        return self.from_ns <= vns and (self.to_ns is None or vns <= self.to_ns)


def export(path: str, options: ExportOptions) -> None:
    """Writes a recording in another form. Raises UsageError, RecordingError, DifferenceError."""
    check_span(options.from_ns, options.to_ns)
    with load_recording(path) as recording:
        if options.form == "pcap":
            _export_packets(recording, options)
            return
        if options.vm is not None or options.links:
            raise UsageError("--vm and --link are about packets", where=path, hint="give --format pcap")
        with _output(options) as out:
            for line in _lines(recording, options):
                out.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")


@contextlib.contextmanager
def _output(options: ExportOptions) -> Generator[BinaryIO]:
    if options.output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    with open(options.output, "wb") as out:  # noqa: PTH123  a path as the person wrote it
        yield out


# ---- JSON Lines ------------------------------------------------------------------------------------------------------


def _lines(recording: Recording, options: ExportOptions) -> Iterator[dict[str, Any]]:
    yield {"type": "recording", **recording_dict(recording)}
    for branch in recording.kept if options.branch is None else [recording.branch(options.branch)]:
        here = {"branch": branch.name}
        for given in branch.inputs:
            if options.holds(given.at.vns):
                yield {"type": "input", **here, **_input(given)}
        for number, event in recording.events(branch, from_vns=options.from_ns, to_vns=options.to_ns):
            yield {"type": "event", **here, "number": number, **event_dict(event)}
        for frame in packets_sent(recording, branch, options.from_ns, options.to_ns):
            yield {"type": "packet", **here, **frame_dict(frame)}
        for failure in branch.failures:
            if options.holds(failure.at.vns):
                yield {"type": "failure", **here, **failure_dict(failure)}
        for ending in branch.endings:
            if options.holds(ending.vns):
                yield {"type": "ending", **here, **dataclasses.asdict(ending)}
        for c in recording.each_checkpoint(branch, from_vns=options.from_ns, to_vns=options.to_ns):
            line = {"type": "checkpoint", **here, "vns": c.position.vns, "ordinal": c.position.ordinal}
            line |= {"instrets": c.instrets, "console_bytes": c.totals, "events": c.events, "network": c.network}
            yield {**line, "digests": [part.whole for part in c.parts]}


def _input(given: GivenInput) -> dict[str, Any]:
    found: dict[str, Any] = {"vns": given.at.vns, "ordinal": given.at.ordinal, "instret": given.instret}
    found |= {"kind": type(given.input).__name__, "text": describe(given.input)}
    data = getattr(given.input, "data", None)
    if isinstance(data, bytes):
        found |= {"machine": getattr(given.input, "machine", None), "hex": data.hex()}
    return found


# ---- packets ---------------------------------------------------------------------------------------------------------


def _export_packets(recording: Recording, options: ExportOptions) -> None:
    vms = recording.header.config.num_vms
    for vm in (*(end for link in options.links for end in link), *([] if options.vm is None else [options.vm])):
        if vm >= vms:
            raise UsageError(f"there is no machine {vm}", where=recording.path, hint=f"they are 0 to {vms - 1}")
    branch = recording.branch(options.branch)
    frames = _frames(recording, branch, options)
    if options.links:
        frames = [frame for frame in frames if (frame.src, frame.dst) in options.links]
    seen = [frame for frame in wire_frames(frames, options.vm) if options.holds(frame.vns)]
    with _output(options) as out:
        write_pcap(out, seen, epoch_s=recording.header.config.vm_config.rtc_epoch_s)
    where = options.output or "stdout"
    diagnostics.note(f"{len(seen)} packets of {branch.name} to {where}, {sum(bool(f.comment) for f in seen)} commented")


def _frames(recording: Recording, branch: RecordedBranch, options: ExportOptions) -> list[CapturedFrame]:
    if recording.has_packets:
        return read_packets(recording, branch, to_vns=options.to_ns)
    try:
        frames, compared = replay_packets(
            recording,
            branch,
            to_vns=options.to_ns,
            images=options.images,
            trusted_observers=options.observers,
            progress=tell_progress(),
        )
    finally:
        diagnostics.end_transient()
    diagnostics.note(
        f"{recording.path} was lived through again: {compared.checkpoints} checkpoints and {compared.events} events are"
        " as recorded"
    )
    return frames


__all__ = ["ExportOptions", "export"]
