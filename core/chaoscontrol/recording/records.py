"""Records: what a recording's frames hold, as values, and their arrays.

The header is in header.py. A record belongs to a branch by its number: branches are numbered in the order in which
they were made, the first one is 0.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.network import FATES, FRAME_BYTES_MAX, CapturedFrame, Fate
from chaoscontrol.oracle import At
from chaoscontrol.recording import values
from chaoscontrol.recording.fields import ARRAY_MAX, Fields, Place, entries, pack, unpack
from chaoscontrol.recording.frames import BRANCHES_MAX
from chaoscontrol.recording.values import NAME_MAX, VM_MAX
from chaoscontrol.registers import PACKED_BYTES
from chaoscontrol.timetravel import Ending, Failure, GivenInput, Position
from chaoscontrol.timetravel.keyframes import Parts
from chaoscontrol.timetravel.moment import BRANCH_NAME
from chaoscontrol.timetravel.sketch import SKETCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.keyframes import Keyframe

DIGEST_BYTES = 16
NOTE_MAX = 65_536
MACHINES_MAX = VM_MAX + 1


@dataclasses.dataclass(frozen=True, slots=True)
class BranchMade:
    """A branch begins."""

    branch: int
    name: str
    parent: int | None
    start: Position


@dataclasses.dataclass(frozen=True, slots=True)
class InputGiven:
    """An input of a branch."""

    branch: int
    given: GivenInput


@dataclasses.dataclass(frozen=True, slots=True)
class MachineEnded:
    """A machine stopped."""

    branch: int
    ending: Ending


@dataclasses.dataclass(frozen=True, slots=True)
class PropertyBroken:
    """A property failed, for the first time on the branch's line."""

    branch: int
    failure: Failure
    judged: Position
    """Where it was found out; the failure itself may be earlier."""


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """A mark or a note that a person left at a position."""

    branch: int
    position: Position
    text: str
    is_mark: bool
    """A name for the position, not a note about it."""


@dataclasses.dataclass(frozen=True, slots=True)
class BranchRenamed:
    """From here on a branch is called otherwise; its former names stay its own."""

    branch: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class BranchDeleted:
    """A branch is gone; nothing forks from it any more."""

    branch: int


@dataclasses.dataclass(frozen=True, slots=True)
class Annotated:
    """A note on a branch, or on a mark that was set on it, in place of the one before."""

    branch: int
    mark: str | None
    text: str
    """Empty: no note."""


TreeRecord = (
    BranchMade
    | InputGiven
    | MachineEnded
    | PropertyBroken
    | Remark
    | BranchRenamed
    | BranchDeleted
    | Annotated
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of a branch in order, the first of them number `first` of its line; all that happened up to `until`."""

    branch: int
    first: int
    until: Position
    pending: bool
    """They had happened when the recording ended, and were not judged yet."""
    events: tuple[Event, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PacketBatch:
    """What the network did with frames on a branch, in its order."""

    branch: int
    frames: tuple[CapturedFrame, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """The digests of a position."""

    branch: int
    position: Position
    instrets: tuple[int, ...]
    totals: tuple[int, ...]
    """Console bytes sent, per machine."""
    parts: tuple[Parts, ...]
    network: str
    """Digest of what is not in the machines; empty if there is none."""
    events: int
    """Events of the line that were judged by then."""

    @classmethod
    def of(cls, branch: int, keyframe: Keyframe) -> Checkpoint:
        """What a keyframe says."""
        k = keyframe
        return cls(branch, k.position, k.instrets, k.totals, k.parts, k.network, k.events)


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """The recording was closed in order."""

    events: int
    """In all branches together."""
    complete: bool
    """Nothing was left out; False: a repair, or an error while writing."""


# ---- the tree --------------------------------------------------------------------------------------------------------


def tree_values(record: TreeRecord) -> list[object]:
    """[number of the kind, branch, ...]."""
    match record:
        case BranchMade(branch, name, parent, start):
            return [0, branch, name, parent, start.vns, start.ordinal]
        case InputGiven(branch, given):
            return [1, branch, values.given_values(given)]
        case MachineEnded(branch, e):
            return [2, branch, e.machine, e.vns, e.kind, e.detail]
        case PropertyBroken(branch, failure, judged):
            at = failure.at
            return [3, branch, at.vns, at.vm, at.instret, failure.name, failure.details, judged.vns, judged.ordinal]
        case Remark(branch, position, text, is_mark):
            return [4, branch, position.vns, position.ordinal, text, is_mark]
        case BranchRenamed(branch, name):
            return [5, branch, name]
        case BranchDeleted(branch):
            return [6, branch]
        case Annotated(branch, mark, text):
            return [7, branch, mark, text]


_TREE_LENGTHS = (6, 3, 6, 9, 6, 3, 2, 4)


def read_tree_record(value: object, what: str, place: Place) -> TreeRecord:
    """A record from `tree_values`."""
    first = entries(value, what, place)[:1]
    kind = first[0] if first else None
    if type(kind) is not int or not 0 <= kind < len(_TREE_LENGTHS):
        place.fail(f"{what} is of no kind of record that there is")
    fields = Fields(value, _TREE_LENGTHS[kind], what, place)
    fields.any()
    branch = fields.whole("branch", 0, BRANCHES_MAX - 1)
    match kind:
        case 0:
            name = _branch_name(fields)
            parent = fields.whole_or_none("parent", 0, BRANCHES_MAX - 1)
            return BranchMade(branch, name, parent, values.position_of(fields, "start"))
        case 1:
            return InputGiven(branch, values.read_given(fields.any(), f"{what}.given", place))
        case 2:
            machine, vns = fields.whole("machine", 0, VM_MAX), fields.whole("vns")
            return MachineEnded(branch, Ending(machine, vns, fields.text("kind", NAME_MAX), fields.whole("detail")))
        case 3:
            at = At(fields.whole("vns"), fields.whole("vm", -1, VM_MAX), fields.whole("instret"))
            failure = Failure(at, fields.text("name"), fields.text("details"))
            return PropertyBroken(branch, failure, values.position_of(fields, "judged"))
        case 4:
            position = values.position_of(fields, "position")
            return Remark(branch, position, fields.text("text", NOTE_MAX), fields.flag("is_mark"))
        case 5:
            return BranchRenamed(branch, _branch_name(fields))
        case 6:
            return BranchDeleted(branch)
        case _:
            return Annotated(branch, fields.text_or_none("mark", NOTE_MAX), fields.text("text", NOTE_MAX))


def _branch_name(fields: Fields) -> str:
    name = fields.text("name", NAME_MAX)
    if BRANCH_NAME.fullmatch(name) is None:
        fields.refuse("name", name, "a branch's name")
    return name


def encode_tree(records: Sequence[TreeRecord]) -> bytes:
    """The payload of a TREE frame."""
    return pack([tree_values(record) for record in records])


def decode_tree(payload: bytes, place: Place) -> list[TreeRecord]:
    """The records of a TREE frame. Raises RecordingError."""
    found = entries(unpack(payload, place), "tree", place)
    return [read_tree_record(value, f"tree[{at}]", place) for at, value in enumerate(found)]


# ---- events ----------------------------------------------------------------------------------------------------------


def encode_events(batch: EventBatch) -> bytes:
    """The payload of an EVENTS frame."""
    until = batch.until
    events = [values.event_values(event) for event in batch.events]
    return pack([batch.branch, batch.first, until.vns, until.ordinal, batch.pending, events])


def decode_events(payload: bytes, place: Place) -> EventBatch:
    """The batch of an EVENTS frame. Raises RecordingError."""
    fields = Fields(unpack(payload, place), 6, "events", place)
    branch, first = fields.whole("branch", 0, BRANCHES_MAX - 1), fields.whole("first", 0, (1 << 62))
    until, pending = values.position_of(fields, "until"), fields.flag("pending")
    found = fields.array("events", ARRAY_MAX)
    events = tuple(values.read_event(value, f"events[{at}]", place) for at, value in enumerate(found))
    return EventBatch(branch, first, until, pending, events)


# ---- packets ---------------------------------------------------------------------------------------------------------


def encode_packets(batch: PacketBatch) -> bytes:
    """The payload of a PACKETS frame."""
    frames = [
        [f.switched_vns, f.sent_vns, f.arrival_vns, f.serial, f.src, f.dst, int(f.fate), f.data] for f in batch.frames
    ]
    return pack([batch.branch, frames])


def decode_packets(payload: bytes, place: Place) -> PacketBatch:
    """The batch of a PACKETS frame. Raises RecordingError."""
    fields = Fields(unpack(payload, place), 2, "packets", place)
    branch = fields.whole("branch", 0, BRANCHES_MAX - 1)
    found = fields.array("packets", ARRAY_MAX)
    return PacketBatch(branch, tuple(_read_frame(value, f"packets[{at}]", place) for at, value in enumerate(found)))


def _read_frame(value: object, what: str, place: Place) -> CapturedFrame:
    fields = Fields(value, 8, what, place)
    return CapturedFrame(
        fields.whole("switched"),
        fields.whole("sent"),
        fields.whole_or_none("arrival"),
        fields.whole("serial"),
        fields.whole("src", 0, VM_MAX),
        fields.whole("dst", 0, VM_MAX),
        Fate(fields.whole("fate", 0, FATES)),
        fields.binary("data", FRAME_BYTES_MAX),
    )


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def _checkpoint_values(c: Checkpoint) -> list[object]:
    machines = [[bytes.fromhex(part.whole + part.cpu + part.devices), part.registers, part.sketch] for part in c.parts]
    network = bytes.fromhex(c.network)
    return [c.branch, c.position.vns, c.position.ordinal, c.instrets, c.totals, machines, network, c.events]


def _read_parts(value: object, what: str, place: Place) -> Parts:
    fields = Fields(value, 3, what, place)
    digests = _exactly(fields, "digests", 3 * DIGEST_BYTES)
    registers, sketch = _exactly(fields, "registers", PACKED_BYTES), _exactly(fields, "sketch", SKETCH_BYTES)
    whole, cpu, devices = (digests[at : at + DIGEST_BYTES].hex() for at in range(0, 3 * DIGEST_BYTES, DIGEST_BYTES))
    return Parts(whole, cpu, devices, registers, sketch)


def _exactly(fields: Fields, name: str, size: int) -> bytes:
    data = fields.binary(name, size)
    if len(data) != size:
        fields.refuse(name, data, f"{size} bytes")
    return data


def _begin_checkpoint(value: object, what: str, place: Place) -> tuple[Fields, int, Position]:
    fields = Fields(value, 8, what, place)
    return fields, fields.whole("branch", 0, BRANCHES_MAX - 1), values.position_of(fields, "position")


def _read_checkpoint(value: object, what: str, place: Place) -> Checkpoint:
    fields, branch, position = _begin_checkpoint(value, what, place)
    instrets, totals = fields.wholes("instrets", MACHINES_MAX), fields.wholes("totals", MACHINES_MAX)
    machines = fields.array("parts", MACHINES_MAX)
    if not len(instrets) == len(totals) == len(machines) > 0:
        place.fail(f"{what} speaks of {len(instrets)}, {len(totals)} and {len(machines)} machines")
    parts = [_read_parts(machine, f"{what}.parts[{at}]", place) for at, machine in enumerate(machines)]
    network = fields.binary("network", DIGEST_BYTES)
    if len(network) not in (0, DIGEST_BYTES):
        fields.refuse("network", network, f"{DIGEST_BYTES} bytes or none")
    return Checkpoint(branch, position, instrets, totals, tuple(parts), network.hex(), fields.whole("events"))


def checkpoint_bytes_max(checkpoint: Checkpoint) -> int:
    """What one of so many machines takes at most in a CHECKPOINTS frame; there is room for several of the largest."""
    numbers = 9 + 9 + 9 + DIGEST_BYTES + 9 + 9 + 32
    return numbers + len(checkpoint.parts) * (9 + 9 + 3 * DIGEST_BYTES + PACKED_BYTES + SKETCH_BYTES + 16)


def encode_checkpoints(checkpoints: Sequence[Checkpoint]) -> bytes:
    """The payload of a CHECKPOINTS frame."""
    return pack([_checkpoint_values(checkpoint) for checkpoint in checkpoints])


def decode_checkpoints(payload: bytes, place: Place) -> list[Checkpoint]:
    """The checkpoints of a CHECKPOINTS frame. Raises RecordingError."""
    found = entries(unpack(payload, place), "checkpoints", place)
    return [_read_checkpoint(value, f"checkpoints[{at}]", place) for at, value in enumerate(found)]


def checkpoint_positions(payload: bytes, place: Place) -> list[Position]:
    """Where the checkpoints of a CHECKPOINTS frame are. Raises RecordingError."""
    found = entries(unpack(payload, place), "checkpoints", place)
    return [_begin_checkpoint(value, f"checkpoints[{at}]", place)[2] for at, value in enumerate(found)]


# ---- the end ---------------------------------------------------------------------------------------------------------


def encode_end(end: End) -> bytes:
    """The payload of the END frame."""
    return pack([end.events, end.complete])


def decode_end(payload: bytes, place: Place) -> End:
    """The END frame. Raises RecordingError."""
    fields = Fields(unpack(payload, place), 2, "end", place)
    return End(fields.whole("events"), fields.flag("complete"))
