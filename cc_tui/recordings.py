"""What the commands about recordings do: info, events, repair, replay; exports.py does export.

stdout gets the data, as text or JSON; what is said to a person goes through diagnostics. Text of guests is made safe
for a terminal here; JSON escapes what is not printable by itself.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from cc_tui import diagnostics
from cc_tui.console_text import safe_line
from cc_tui.diagnostics import ExitCode
from chaoscontrol.confidence import upper_bound
from chaoscontrol.config import format_bytes
from chaoscontrol.errors import UsageError
from chaoscontrol.events import Event
from chaoscontrol.faults import FaultChange
from chaoscontrol.packets import read_packet
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.recording import (
    Compared,
    Difference,
    DifferenceError,
    RecordedBranch,
    RecordedMark,
    Recording,
    Replay,
    load_recording,
    rebuild,
)
from chaoscontrol.timetravel import (
    DivergenceError,
    Moment,
    MomentError,
    Multiverse,
    Position,
    describe,
    format_seconds,
)
from chaoscontrol.triage import Bug, position_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.recording import Rebuilt
    from chaoscontrol.timetravel import Failure

REPLAY_KEYFRAME_INSNS = 20_000_000
PROGRESS_S = 0.5
INPUTS_SHOWN = 20


def _path(recording: Recording) -> str:
    """Its control characters escaped."""
    return "".join(
        c if c >= " " and not "\x7f" <= c < "\xa0" else c.encode("unicode_escape").decode() for c in recording.path
    )


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=True))


# ---- info ------------------------------------------------------------------------------------------------------------


def print_info(path: str, *, as_json: bool) -> None:
    """What a recording is of, and what is in it."""
    with load_recording(path) as recording:
        if as_json:
            _print_json(recording_dict(recording))
        else:
            _print_info(recording)


def recording_dict(recording: Recording) -> dict[str, Any]:
    """What `info` says, for JSON."""
    header = recording.header
    config, remarks = header.config, _remarks(recording)
    return {
        "path": recording.path,
        "bytes": recording.size,
        "frames": recording.frames,
        "closed": recording.end is not None,
        "complete": recording.end is not None and recording.end.complete,
        "packets": recording.has_packets,
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
                "former_names": list(branch.former),
                "note": branch.note,
                "parent": None if branch.parent is None else recording.branches[branch.parent].name,
                "start_ns": branch.start.vns,
                "end_ns": branch.end.vns,
                "inputs": len(branch.inputs),
                "checkpoints": recording.checkpoint_count(branch),
                "failures": [failure_dict(failure) for failure in branch.failures],
                "endings": [dataclasses.asdict(ending) for ending in branch.endings],
                "remarks": [_remark_dict(*remark) for remark in remarks.get(branch.number, ())],
            }
            for branch in recording.kept
        ],
        "deleted": _deleted(recording),
    }


def _deleted(recording: Recording) -> list[str]:
    """What the branches were called that are gone."""
    return [branch.name for branch in recording.branches if branch.deleted]


def _remarks(recording: Recording) -> dict[int, list[tuple[Position, str, RecordedMark | None]]]:
    """Marks and notes on positions by the number of their branch, in the order of their positions."""
    found: dict[int, list[tuple[Position, str, RecordedMark | None]]] = {}
    for name, mark in recording.marks.items():
        found.setdefault(mark.branch.number, []).append((mark.position, name, mark))
    for branch in recording.kept:
        found.setdefault(branch.number, []).extend((note.position, note.text, None) for note in branch.notes)
        found[branch.number].sort(key=lambda remark: remark[:2])
    return found


def _remark_dict(position: Position, text: str, mark: RecordedMark | None) -> dict[str, Any]:
    return {"vns": position.vns, "text": text, "mark": mark is not None, "note": "" if mark is None else mark.note}


def failure_dict(failure: Failure) -> dict[str, Any]:
    """A broken property, for JSON."""
    at = failure.at
    return {"name": failure.name, "vns": at.vns, "vm": at.vm, "instret": at.instret, "details": failure.details}


def _print_info(recording: Recording) -> None:
    header, config, vm = recording.header, recording.header.config, recording.header.config.vm_config
    end = recording.end
    state = "closed" if end is not None else "not closed: what wrote it was killed, or could write no more"
    if end is not None and not end.complete:
        state = "repaired: something after its end was lost"
    print(f"{_path(recording)}: {format_bytes(recording.size)}, {recording.frames} frames, {state}")
    if recording.damage is not None:
        print(f"  torn       at byte {recording.damage.offset}; everything before is whole")
    print(f"  engine     {safe_line(header.engine)}, vCPU {header.vcpu}, CPU profile {vm.cpu.profile}")
    print(f"  made by    {safe_line(header.heading)}")
    print(f"  machines   {config.num_vms} with {format_bytes(vm.memory_bytes)}, seed {config.seed}, "
          f"tick {config.quantum_ns // 1000} us")  # fmt: skip
    for image in header.images:
        where = "embedded" if image.embedded else safe_line(image.name)
        print(f"  {image.role:10} {where} ({format_bytes(image.size)}, SHA-256 {image.sha256.hex()[:16]}...)")
    if header.judge.scenario:
        print(f"  scenario   {safe_line(header.judge.scenario)}")
    for fault in header.schedule.faults:
        print(f"  scheduled  {safe_line(str(fault))}")
    number = 0
    remarks = _remarks(recording)
    for branch in recording.kept:
        above = "" if branch.parent is None else f" from {recording.branches[branch.parent].name}"
        print(f"  branch     {branch.name}{above}: {format_seconds(branch.start.vns)} to "
              f"{format_seconds(branch.end.vns)} s, {len(branch.inputs)} inputs")  # fmt: skip
        if branch.former:
            print(f"    was called {', '.join(branch.former)}")
        if branch.note:
            print(f"    note: {safe_line(branch.note)}")
        for given in branch.inputs[:INPUTS_SHOWN]:
            print(f"    {format_seconds(given.at.vns)} {safe_line(describe(given.input))}")
        if len(branch.inputs) > INPUTS_SHOWN:
            print(f"    and {len(branch.inputs) - INPUTS_SHOWN} more")
        for position, text, mark in remarks[branch.number]:
            kind = "note" if mark is None else "mark"
            about = f": {safe_line(mark.note)}" if mark is not None and mark.note else ""
            print(f"    {format_seconds(position.vns)} {kind} {safe_line(text)}{about}")
        for failure in branch.failures:
            number += 1
            print(f"    FAILED {failure.at}: bug {number}: {safe_line(failure.name)}: {safe_line(failure.details)}")
    deleted = _deleted(recording)
    if deleted:
        print(f"  deleted    {', '.join(deleted)}")


# ---- events ----------------------------------------------------------------------------------------------------------


def print_events(
    path: str, *, only: str | None, from_ns: int, to_ns: int | None, branch: str | None, as_json: bool
) -> None:
    """Events of a recording, branch by branch; for `bugs` the failed properties with their moments.

    Raises UsageError for a span that ends before it begins.
    """
    check_span(from_ns, to_ns)
    with load_recording(path) as recording:
        for line in _events(recording, only, from_ns, to_ns, branch):
            if as_json:
                _print_json(line)
            else:
                who = f"vm{line['vm']}" if line["vm"] >= 0 else "-"
                where = f"{line['branch']}@{format_seconds(line['vns'])}"
                print(f"{where} {who:5} {line['kind']:8} {safe_line(line['text'])}")


def check_span(from_ns: int, to_ns: int | None) -> None:
    """Raises UsageError for a span of virtual time that ends before it begins."""
    if to_ns is not None and to_ns < from_ns:
        raise UsageError(
            f"--from {format_seconds(from_ns)} s is after --to {format_seconds(to_ns)} s", hint="exchange them"
        )


def _events(
    recording: Recording, only: str | None, from_ns: int, to_ns: int | None, name: str | None
) -> Iterator[dict[str, Any]]:
    for branch in recording.kept if name is None else [recording.branch(name)]:
        if only == "bugs":
            for failure in branch.failures:
                if from_ns <= failure.at.vns and (to_ns is None or failure.at.vns <= to_ns):
                    yield {
                        "branch": branch.name,
                        **failure_dict(failure),
                        "kind": "bug",
                        "text": f"{failure.name}: {failure.details}",
                    }
            continue
        events: Iterator[dict[str, Any]] = (
            {"branch": branch.name, "number": number, **event_dict(event)}
            for number, event in recording.events(branch, only=only, from_vns=from_ns, to_vns=to_ns)
        )
        packets: Iterator[dict[str, Any]] = (
            {"branch": branch.name, **frame_dict(frame)}
            for frame in (packets_sent(recording, branch, from_ns, to_ns) if only in (None, "network") else ())
        )
        yield from heapq.merge(events, packets, key=lambda line: line["vns"])


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


def packets_sent(
    recording: Recording, branch: RecordedBranch, from_ns: int, to_ns: int | None
) -> Iterator[CapturedFrame]:
    """The recorded packets of a branch that were sent in [from_ns, to_ns]."""
    last_ns = None if to_ns is None else to_ns + recording.header.config.quantum_ns
    for frame in recording.packets(branch, from_vns=from_ns, to_vns=last_ns):
        if from_ns <= frame.sent_vns and (to_ns is None or frame.sent_vns <= to_ns):
            yield frame


def frame_dict(frame: CapturedFrame) -> dict[str, Any]:
    """What became of a frame, for JSON."""
    fate = frame.fate.text
    return {
        "vns": frame.sent_vns,
        "vm": frame.src,
        "kind": "network",
        "text": f"to vm{frame.dst} {read_packet(frame.data)}{f' ({fate})' if fate else ''}",
        "to": frame.dst,
        "serial": frame.serial,
        "arrival_vns": frame.arrival_vns,
        "fate": fate or "delivered",
        "hex": frame.data.hex(),
    }


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
    bug: int | None = None
    """Only up to where this one is found out."""
    images: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()
    as_json: bool = False


def replay(path: str, options: ReplayOptions) -> int:
    """Lives through a recording again and compares; ENGINE if something differed."""
    began_s = time.monotonic()
    with load_recording(path) as recording:
        whole = options.checkpoint is None and options.ticks is None and options.branch is None
        bug = None if options.bug is None else _bug(recording, options.bug)
        moment = ""
        if bug is not None:
            results, moment = _replay_bug(recording, options, bug)
        elif whole:
            results = _replay_all(recording, options)
        else:
            results = _replay_part(recording, options)
        compared = [result for result in results if isinstance(result, Compared)]
        differences = [result for result in results if isinstance(result, Difference)]
        back = None if bug is None or not moment else (bug, moment)
        _report(recording, options, compared, differences, time.monotonic() - began_s, back)
    return ExitCode.ENGINE if differences else ExitCode.OK


def _rebuild(recording: Recording, options: ReplayOptions) -> Rebuilt:
    return rebuild(recording, images=options.images, trusted_observers=options.observers, packets=recording.has_packets)


def _replay_all(recording: Recording, options: ReplayOptions) -> list[Compared | Difference]:
    results: list[Compared | Difference] = []
    for _ in range(options.repeat):
        rebuilt = _rebuild(recording, options)
        try:
            multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=REPLAY_KEYFRAME_INSNS)
            results.append(Replay(recording, multiverse, progress=tell_progress()).all())
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
    rebuilt = _rebuild(recording, options)
    results: list[Compared | Difference] = []
    try:
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=REPLAY_KEYFRAME_INSNS)
        replay = Replay(recording, multiverse, progress=tell_progress())
        try:
            replay.to(recording.owner(branch, start), start)
        except DifferenceError as error:
            return [error.difference]
        if moment is not None:
            _check_moment(multiverse, moment)
        free = (name for at in itertools.count(1) if not multiverse.knows_branch(name := f"repeat-{at}"))
        for name in itertools.islice(free, options.repeat):
            try:
                results.append(replay.along(branch, start, end, name))
            except DifferenceError as error:
                results.append(error.difference)
    finally:
        diagnostics.end_transient()
        rebuilt.close()
    return results


def _check_moment(multiverse: Multiverse, moment: Moment) -> None:
    try:
        multiverse.goto(moment)
    except DivergenceError:
        # The way here has just been compared with the recording, so it is not the replay that is wrong.
        multiverse.goto_time(moment.position.vns, ordinal=moment.position.ordinal)
        raise MomentError(f"no moment of this recording: {moment}", hint=f"it has {multiverse.moment()}") from None


def _replay_bug(recording: Recording, options: ReplayOptions, bug: Bug) -> tuple[list[Compared | Difference], str]:
    """From the beginning to where a bug is found out, each time in a cluster of its own; and its moment."""
    branch = recording.branch(bug.branch)
    judged = branch.judged[branch.failures.index(bug.failure)]
    results: list[Compared | Difference] = []
    moment = ""
    for _ in range(options.repeat):
        rebuilt = rebuild(recording, images=options.images, trusted_observers=options.observers)
        try:
            multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=REPLAY_KEYFRAME_INSNS)
            results.append(Replay(recording, multiverse, progress=tell_progress()).to(branch, judged))
            if not moment:
                at = position_of(multiverse, bug)
                multiverse.goto_time(at.vns, ordinal=at.ordinal)
                moment = str(multiverse.moment())
        except DifferenceError as error:
            results.append(error.difference)
        finally:
            diagnostics.end_transient()
            rebuilt.close()
    return results, moment


def _bug(recording: Recording, number: int) -> Bug:
    """Raises UsageError."""
    failures = recording.failures
    if number > len(failures):
        hint = f"they are numbered 1 to {len(failures)}" if failures else "nothing failed in it"
        raise UsageError(f"there is no bug {number}", where=recording.path, hint=hint)
    branch, failure = failures[number - 1]
    return Bug(number, branch.name, failure)


def _start(recording: Recording, options: ReplayOptions) -> tuple[RecordedBranch, Position, Moment | None]:
    """The branch to follow, the position on its line to begin at, and the moment if one was given."""
    from cc_tui.options import parse_time_ns

    branch = recording.branch(options.branch)
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
        vns = parse_time_ns(place if place[-1:].isalpha() or not place else f"{place}s")
        position = recording.position(branch, vns)
    if position > branch.end:
        raise MomentError(
            f"{branch.name} is recorded up to {format_seconds(branch.end.vns)} s", hint="give an earlier checkpoint"
        )
    if options.branch is not None and recording.branch(options.branch) is not branch:
        raise UsageError(
            f"checkpoint {options.checkpoint} is on {branch.name}", hint=f"leave out --branch {options.branch}"
        )
    # What is lived through again has the branches that lead there, by what they are called now.
    owner = recording.owner(branch, position)
    return branch, position, None if moment is None else dataclasses.replace(moment, branch=owner.name)


def _report(
    recording: Recording,
    options: ReplayOptions,
    compared: Sequence[Compared],
    differences: Sequence[Difference],
    took_s: float,
    back: tuple[Bug, str] | None,
) -> None:
    """back: the bug that was asked for, and its moment."""
    tries = len(compared) + len(differences)
    bound = upper_bound(len(differences), tries)
    deleted = _deleted(recording)
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
                "deleted": deleted,
                "bug": None if back is None else _back(*back),
                "seconds": round(took_s, 3),
            }
        )
        return
    if compared:
        last = compared[-1]
        print(
            f"{_path(recording)}: {last.branches} branches, {last.vns / 1e9:.3f} virtual seconds, {last.inputs} inputs:"
            f" {last.checkpoints} checkpoints and {last.events} events are as recorded ({took_s:.1f} s)"
        )
        if deleted:
            print(f"  not replayed, because deleted: {', '.join(deleted)}")
    if tries > 1:
        print(f"{len(compared)}/{tries} replays are equal; with 95 % confidence fewer than {bound:.3%} differ")
    for number, difference in enumerate(differences):
        if number == 0:
            sys.stdout.flush()
            diagnostics.error(f"{recording.path}: the replay differs: {difference}")
    if back is not None:
        bug, moment = back
        print(f"bug {bug.number} is back, at {moment}: {safe_line(bug.failure.name)}: {safe_line(bug.failure.details)}")
        return
    for branch, failure in recording.failures if compared else []:
        print(f"  FAILED {branch.name} {failure.at}: {safe_line(failure.name)}")


def _back(bug: Bug, moment: str) -> dict[str, Any]:
    return {"number": bug.number, "moment": moment, **failure_dict(bug.failure)}


def tell_progress() -> Callable[[str, int, int], None]:
    """Says how far a replay is, where stderr is a terminal."""
    said_s = time.monotonic()

    def tell(branch: str, vns: int, end_vns: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= PROGRESS_S:
            said_s = now_s
            diagnostics.transient(f"{branch}: {vns / 1e9:.3f} of {end_vns / 1e9:.3f} s")

    return tell


__all__ = [
    "ReplayOptions",
    "event_dict",
    "failure_dict",
    "frame_dict",
    "packets_sent",
    "print_events",
    "print_info",
    "recording_dict",
    "repair",
    "replay",
    "tell_progress",
]
