"""What the commands about recordings do: info, events, export, repair, replay.

stdout gets the data, as text or JSON; what is said to a person goes through diagnostics. Text of guests is made safe
for a terminal here; JSON escapes what is not printable by itself.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from cc_tui import diagnostics
from cc_tui.console_text import EscapeStripper
from cc_tui.diagnostics import ExitCode
from chaoscontrol.config import format_bytes
from chaoscontrol.errors import UsageError
from chaoscontrol.events import Event
from chaoscontrol.faults import FaultChange
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.recording import (
    Compared,
    Difference,
    DifferenceError,
    RecordedBranch,
    Recording,
    Replay,
    load_recording,
    rebuild,
    upper_bound,
)
from chaoscontrol.timetravel import Moment, MomentError, Multiverse, Position, describe, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaoscontrol.timetravel import Failure, GivenInput

REPLAY_KEYFRAME_INSNS = 20_000_000
PROGRESS_S = 0.5
INPUTS_SHOWN = 20


def _safe(text: str) -> str:
    """One line that cannot command a terminal."""
    return " ".join(EscapeStripper().feed(text.encode("utf-8", "replace")).split("\n")).replace("\r", " ")


def _print_json(value: object, out: TextIO | None = None) -> None:
    print(json.dumps(value, ensure_ascii=True), file=out or sys.stdout)


# ---- info ------------------------------------------------------------------------------------------------------------


def print_info(path: str, *, as_json: bool) -> None:
    """What a recording is of, and what is in it."""
    with load_recording(path) as recording:
        if as_json:
            _print_json(_info(recording))
        else:
            _print_info(recording)


def _info(recording: Recording) -> dict[str, Any]:
    header = recording.header
    config = header.config
    return {
        "path": recording.path,
        "bytes": recording.size,
        "frames": recording.frames,
        "closed": recording.end is not None,
        "complete": recording.end is not None and recording.end.complete,
        "torn_at": None if recording.damage is None else recording.damage.offset,
        "engine": header.engine,
        "made_by": header.heading,
        "scenario": header.judge.scenario,
        "vcpu": header.vcpu,
        "cpu_profile": config.vm_config.cpu.profile,
        "machines": config.num_vms,
        "memory_bytes": config.vm_config.memory_bytes,
        "seed": config.seed,
        "quantum_ns": config.quantum_ns,
        "images": [
            {"role": i.role, "name": i.name, "sha256": i.sha256.hex(), "bytes": i.size, "embedded": i.embedded}
            for i in header.images
        ],
        "schedule": [str(fault) for fault in header.schedule.faults],
        "branches": [
            {
                "name": branch.name,
                "parent": None if branch.parent is None else recording.branches[branch.parent].name,
                "start_ns": branch.start.vns,
                "end_ns": branch.end.vns,
                "inputs": len(branch.inputs),
                "checkpoints": len(recording.checkpoints(branch)),
                "failures": [_failure(failure) for failure in branch.failures],
                "endings": [dataclasses.asdict(ending) for ending in branch.endings],
                "remarks": [{"vns": r.position.vns, "text": r.text, "mark": r.is_mark} for r in branch.remarks],
            }
            for branch in recording.branches
        ],
    }


def _failure(failure: Failure) -> dict[str, Any]:
    at = failure.at
    return {"name": failure.name, "vns": at.vns, "vm": at.vm, "instret": at.instret, "details": failure.details}


def _print_info(recording: Recording) -> None:
    header, config, vm = recording.header, recording.header.config, recording.header.config.vm_config
    end = recording.end
    state = "closed" if end is not None else "not closed: what wrote it was killed"
    if end is not None and not end.complete:
        state = "repaired: something after its end was lost"
    print(f"{recording.path}: {format_bytes(recording.size)}, {recording.frames} frames, {state}")
    if recording.damage is not None:
        print(f"  torn       at byte {recording.damage.offset}; everything before is whole")
    print(f"  engine     {_safe(header.engine)}, vCPU {header.vcpu}, CPU profile {vm.cpu.profile}")
    print(f"  made by    {_safe(header.heading)}")
    print(f"  machines   {config.num_vms} with {format_bytes(vm.memory_bytes)}, seed {config.seed}, "
          f"tick {config.quantum_ns // 1000} us")  # fmt: skip
    for image in header.images:
        where = "embedded" if image.embedded else _safe(image.name)
        print(f"  {image.role:10} {where} ({format_bytes(image.size)}, SHA-256 {image.sha256.hex()[:16]}...)")
    if header.judge.scenario:
        print(f"  scenario   {_safe(header.judge.scenario)}")
    for fault in header.schedule.faults:
        print(f"  scheduled  {_safe(str(fault))}")
    for branch in recording.branches:
        above = "" if branch.parent is None else f" from {recording.branches[branch.parent].name}"
        print(f"  branch     {branch.name}{above}: {format_seconds(branch.start.vns)} to "
              f"{format_seconds(branch.end.vns)} s, {len(branch.inputs)} inputs")  # fmt: skip
        for given in branch.inputs[:INPUTS_SHOWN]:
            print(f"    {format_seconds(given.at.vns)} {_safe(describe(given.input))}")
        if len(branch.inputs) > INPUTS_SHOWN:
            print(f"    and {len(branch.inputs) - INPUTS_SHOWN} more")
        for remark in branch.remarks:
            kind = "mark" if remark.is_mark else "note"
            print(f"    {format_seconds(remark.position.vns)} {kind} {_safe(remark.text)}")
        for failure in branch.failures:
            print(f"    FAILED {failure.at}: {_safe(failure.name)}: {_safe(failure.details)}")


# ---- events ----------------------------------------------------------------------------------------------------------


def print_events(
    path: str, *, only: str | None, from_ns: int, to_ns: int | None, branch: str | None, as_json: bool
) -> None:
    """Events of a recording, branch by branch; for `bugs` the failed properties with their moments."""
    with load_recording(path) as recording:
        for line in _events(recording, only, from_ns, to_ns, branch):
            if as_json:
                _print_json(line)
            else:
                who = f"vm{line['vm']}" if line["vm"] >= 0 else "-"
                where = f"{line['branch']}@{format_seconds(line['vns'])}"
                print(f"{where} {who:5} {line['kind']:8} {_safe(line['text'])}")


def _events(
    recording: Recording, only: str | None, from_ns: int, to_ns: int | None, name: str | None
) -> Iterator[dict[str, Any]]:
    for branch in recording.branches if name is None else [recording.branch(name)]:
        if only == "bugs":
            for failure in branch.failures:
                if from_ns <= failure.at.vns and (to_ns is None or failure.at.vns <= to_ns):
                    yield {
                        "branch": branch.name,
                        **_failure(failure),
                        "kind": "bug",
                        "text": f"{failure.name}: {failure.details}",
                    }
            continue
        for number, event in recording.events(branch, only=only, from_vns=from_ns, to_vns=to_ns):
            yield {"branch": branch.name, "number": number, **event_dict(event)}


def event_dict(event: Event) -> dict[str, Any]:
    """An event for JSON."""
    found: dict[str, Any] = {
        "vns": event.vns,
        "vm": event.vm,
        "instret": event.instret,
        "kind": str(event.kind),
        "text": event.text,
    }
    data = event.data
    if isinstance(data, bytes):
        found["hex"] = data.hex()
    elif isinstance(data, SdkEvent):
        found |= {
            "command": data.command.name.lower(),
            "condition": data.condition,
            "failed": data.failed,
            "evaluations": data.evaluations,
            "message": data.message,
            "details": data.json,
        }
    elif isinstance(data, FaultChange):
        found |= {"fault": str(data.fault), "begins": data.begins, "fault_number": data.number}
    return found


# ---- export ----------------------------------------------------------------------------------------------------------


def export(path: str, *, form: str, output: str | None) -> None:
    """A whole recording as JSON Lines. Raises UsageError for a form that it cannot have."""
    if form == "pcap":
        raise UsageError("no packets are in a recording", where=path, hint="export --format jsonl")
    with load_recording(path) as recording:
        if output is None:
            _export(recording, sys.stdout)
            return
        with open(output, "w", encoding="utf-8") as out:  # noqa: PTH123  a path as the person wrote it
            _export(recording, out)


def _export(recording: Recording, out: TextIO) -> None:
    _print_json({"type": "recording", **_info(recording)}, out)
    for branch in recording.branches:
        here = {"branch": branch.name}
        for given in branch.inputs:
            _print_json({"type": "input", **here, **_input(given)}, out)
        for number, event in recording.events(branch):
            _print_json({"type": "event", **here, "number": number, **event_dict(event)}, out)
        for failure in branch.failures:
            _print_json({"type": "failure", **here, **_failure(failure)}, out)
        for ending in branch.endings:
            _print_json({"type": "ending", **here, **dataclasses.asdict(ending)}, out)
        for c in recording.checkpoints(branch):
            line = {"type": "checkpoint", **here, "vns": c.position.vns, "ordinal": c.position.ordinal}
            line |= {"instrets": c.instrets, "console_bytes": c.totals, "events": c.events, "network": c.network}
            _print_json({**line, "digests": [part.whole for part in c.parts]}, out)


def _input(given: GivenInput) -> dict[str, Any]:
    found: dict[str, Any] = {"vns": given.at.vns, "ordinal": given.at.ordinal, "instret": given.instret}
    found |= {"kind": type(given.input).__name__, "text": describe(given.input)}
    data = getattr(given.input, "data", None)
    if isinstance(data, bytes):
        found |= {"machine": getattr(given.input, "machine", None), "hex": data.hex()}
    return found


# ---- repair ----------------------------------------------------------------------------------------------------------


def repair(path: str, *, output: str | None) -> None:
    """Writes what is whole, and says what was lost."""
    with load_recording(path, up_to_damage=True) as recording:
        found = recording.repair(output or path)
    target = f"{output}: " if output is not None else f"{path}: "
    if found.why is None and not found.lost_bytes:
        print(f"{target}nothing was damaged; {found.frames} frames")
        return
    print(f"{target}{found.frames} frames are whole; from byte {found.offset} on {found.lost_bytes} bytes were lost"
          f" ({found.why})")  # fmt: skip


# ---- replay ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What was asked for."""

    checkpoint: str | None = None
    """A moment, BRANCH@SECONDS, or a time on the first branch."""
    ticks: int | None = None
    repeat: int = 1
    branch: str | None = None
    images: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()
    as_json: bool = False


def replay(path: str, options: ReplayOptions) -> int:
    """Lives through a recording again and compares; ENGINE if something differed."""
    began_s = time.monotonic()
    with load_recording(path) as recording:
        whole = options.checkpoint is None and options.ticks is None and options.branch is None
        if whole:
            results = _replay_all(recording, options)
        else:
            results = _replay_part(recording, options)
        compared = [result for result in results if isinstance(result, Compared)]
        differences = [result for result in results if isinstance(result, Difference)]
        _report(recording, options, compared, differences, time.monotonic() - began_s)
    return ExitCode.ENGINE if differences else ExitCode.OK


def _replay_all(recording: Recording, options: ReplayOptions) -> list[Compared | Difference]:
    results: list[Compared | Difference] = []
    for _ in range(options.repeat):
        rebuilt = rebuild(recording, images=options.images, trusted_observers=options.observers)
        try:
            multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=REPLAY_KEYFRAME_INSNS)
            results.append(Replay(recording, multiverse, progress=_progress()).all())
        except DifferenceError as error:
            results.append(error.difference)
        finally:
            diagnostics.end_transient()
            rebuilt.close()
    return results


def _replay_part(recording: Recording, options: ReplayOptions) -> list[Compared | Difference]:
    branch, start, moment = _start(recording, options)
    end = branch.end
    if options.ticks is not None:
        end = min(end, recording.position(branch, start.vns + options.ticks * recording.header.config.quantum_ns))
    rebuilt = rebuild(recording, images=options.images, trusted_observers=options.observers)
    results: list[Compared | Difference] = []
    try:
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=REPLAY_KEYFRAME_INSNS)
        replay = Replay(recording, multiverse, progress=_progress())
        try:
            replay.to(branch, start)
        except DifferenceError as error:
            return [error.difference]
        if moment is not None:
            multiverse.goto(moment)
        for number in range(options.repeat):
            try:
                results.append(replay.branch(branch, start, end, f"repeat-{number + 1}"))
            except DifferenceError as error:
                results.append(error.difference)
    finally:
        diagnostics.end_transient()
        rebuilt.close()
    return results


def _start(recording: Recording, options: ReplayOptions) -> tuple[RecordedBranch, Position, Moment | None]:
    """Where to begin: the branch that owns the position, the position, and the moment if one was given."""
    from cc_tui.options import parse_time_ns

    branch = recording.branches[0] if options.branch is None else recording.branch(options.branch)
    if options.checkpoint is None:
        return branch, branch.start, None
    name, _, place = options.checkpoint.rpartition("@")
    moment: Moment | None = None
    if ":" in place:
        moment = Moment.parse(options.checkpoint)
        name, position = moment.branch, moment.position
        branch = recording.branch(name)
    else:
        branch = recording.branch(name) if name else branch
        vns = parse_time_ns(place if place[-1:].isalpha() else f"{place}s")
        position = recording.position(branch, vns)
    if position > branch.end:
        raise MomentError(
            f"{branch.name} is recorded up to {format_seconds(branch.end.vns)} s", hint="give an earlier checkpoint"
        )
    return recording.owner(branch, position), position, moment


def _report(
    recording: Recording,
    options: ReplayOptions,
    compared: Sequence[Compared],
    differences: Sequence[Difference],
    took_s: float,
) -> None:
    tries = len(compared) + len(differences)
    bound = upper_bound(len(differences), tries)
    if options.as_json:
        _print_json(
            {
                "path": recording.path,
                "replays": tries,
                "equal": len(compared),
                "differences": [dataclasses.asdict(difference) for difference in differences],
                "differing_rate_below": bound,
                "confidence": 0.95,
                "compared": dataclasses.asdict(compared[-1]) if compared else None,
                "seconds": round(took_s, 3),
            }
        )
        return
    if compared:
        last = compared[-1]
        print(
            f"{recording.path}: {last.branches} branches, {last.vns / 1e9:.3f} virtual seconds, {last.inputs} inputs:"
            f" {last.checkpoints} checkpoints and {last.events} events are as recorded ({took_s:.1f} s)"
        )
    if tries > 1:
        print(f"{len(compared)}/{tries} replays are equal; with 95 % confidence fewer than {bound:.3%} differ")
    for number, difference in enumerate(differences):
        if number == 0:
            sys.stdout.flush()
            diagnostics.error(f"{recording.path}: the replay differs: {difference}")
    for branch, failure in recording.failures if compared else []:
        print(f"  FAILED {branch.name} {failure.at}: {_safe(failure.name)}")


def _progress() -> Callable[[str, int, int], None]:
    """Says how far a replay is, where stderr is a terminal."""
    said_s = time.monotonic()

    def tell(branch: str, vns: int, end_vns: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= PROGRESS_S:
            said_s = now_s
            diagnostics.transient(f"{branch}: {vns / 1e9:.3f} of {end_vns / 1e9:.3f} s")

    return tell


__all__ = ["ReplayOptions", "export", "print_events", "print_info", "repair", "replay"]
