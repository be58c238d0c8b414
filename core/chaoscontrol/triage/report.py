"""Report: what is known of one bug, as a value. Plain numbers and texts only, so that it is its own JSON document.

docs/triage.md lists the fields for other programs. Times are virtual nanoseconds since boot unless a name says
otherwise; machines are numbered from 0, and -1 is the cluster. Texts come from guests: who shows them makes them safe.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

VERSION = 1
"""Of the document. A change that a reader would stumble over has another one."""


class Severity(enum.StrEnum):
    """How bad it is, judged by what was broken."""

    CRITICAL = "critical"
    """A machine or its kernel fell over."""
    HIGH = "high"
    """Something happened that must never happen."""
    MEDIUM = "medium"
    """Something did not happen that must happen in the end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """An instant in one machine."""

    vns: int
    vm: int
    instret: int
    """Instructions that the machine had retired; 0 for the cluster."""


@dataclasses.dataclass(frozen=True, slots=True)
class BugFacts:
    """Which bug it is: the same property may be broken on other branches, as other bugs."""

    number: int
    """Among all of the history, from 1: by branch, then in the order in which they were found out."""
    branch: str
    name: str
    """Of the property."""
    details: str
    """What the property said of it: JSON or a line of text."""
    at: Place
    """Where the property was false first."""


@dataclasses.dataclass(frozen=True, slots=True)
class MomentFacts:
    """The first moment at which it has happened; the rest of the report is of this moment."""

    text: str
    """As `goto` takes it; going there compares the digests in it."""
    brief: str
    vns: int
    ordinal: int
    tick: int


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """One time that a guest reported an evaluation of the property."""

    at: Place
    held: bool
    evaluations: int
    """In this machine, this one included."""
    details: str


@dataclasses.dataclass(frozen=True, slots=True)
class PropertyHistory:
    """How the property stood over time, up to the moment."""

    kind: str
    passes: int
    fails: int
    first_pass: Place | None
    first_fail: Place | None
    evaluations: tuple[Evaluation, ...]
    """Those that were reported (an evaluation that holds is told the first time, and seldom after); the last ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class FaultFacts:
    """A fault that had begun."""

    number: int
    kind: str
    text: str
    letter: str
    """Its glyph."""
    begin_ns: int
    end_ns: int | None
    """None: it was in effect at the moment. Equal to the beginning for one that happens in an instant."""
    vms: tuple[int, ...]
    """The machines that it names; empty: all."""
    is_network: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened: an event, or an input that somebody gave."""

    at: Place
    kind: str
    """console, sdk, fault, disk, network, power, agent, end; or input."""
    text: str
    failed: bool
    """Did it break a property?"""


@dataclasses.dataclass(frozen=True, slots=True)
class Activity:
    """How much each machine said over time."""

    bin_ns: int
    counts: tuple[tuple[int, ...], ...]
    """Per machine: console lines and SDK reports in [k * bin_ns, (k + 1) * bin_ns)."""


@dataclasses.dataclass(frozen=True, slots=True)
class StackFrame:
    """One frame of a stack."""

    address: int
    name: str
    """`schedule+0x1a`, with its source line where that is known (`commit at raft.c:12`); a file's name for code without
    symbols, or empty."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleLine:
    """A line of a console."""

    number: int
    """From 1, as `goto vm0#12` counts them."""
    vns: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class MachineFacts:
    """One machine at the moment."""

    vm: int
    state: str
    """running, halted (it waits for an interrupt), paused, off, or how it ended."""
    instret: int
    rip: int
    mode: str
    """kernel or user."""
    process: str
    """What runs, as ps calls it; empty if that is not known."""
    stack: tuple[StackFrame, ...]
    """The innermost frame first."""
    registers: dict[str, int]
    before: tuple[Happening, ...]
    """The last things that it did."""
    console: tuple[ConsoleLine, ...]
    """Its last lines."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A frame on the network."""

    src: int
    dst: int
    sent_vns: int
    arrival_vns: int | None
    """None: it was lost."""
    fate: str
    """delivered, in flight, or why it was lost."""
    summary: str
    meaning: str
    """What the program under test says by it, where the scenario's observer can tell; or empty."""
    payload_bytes: int
    """Above TCP, UDP or ICMP."""
    payload: str
    """The first bytes of that, hexadecimal."""
    in_past: bool
    """Did it happen before the failure: could it have had an effect on it?"""


@dataclasses.dataclass(frozen=True, slots=True)
class Causality:
    """What can have led to the failure, by the happened-before relation of messages (Lamport 1978).

    What a machine did before it sent a message happened before what the receiver does after its arrival. What did not
    happen before the failure cannot be its cause.
    """

    from_vns: int
    """Messages sent from here on were looked at."""
    judged_outside: bool
    """Was the property judged over what all machines reported? Then all that any of them did before counts."""
    messages: tuple[Message, ...]
    """The last ones, in the order of sending; acknowledgements without data are counted and not listed."""
    chains: tuple[tuple[int, ...], ...]
    """Per machine, places in `messages`: the last one with data that it had got by the moment, before it the last one
    that its sender had got, and so on."""
    reaches: tuple[int | None, ...]
    """Per machine: the last instant that happened before the failure; what it did later had no effect. None: nothing
    of it, in this window, had one."""
    in_past: int
    """Frames of the window that happened before the failure, all kinds."""
    lost: int
    """Frames of the window that did not arrive."""
    missed: int
    """Frames that found no room in the capture: then the window is not whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """What was done to the cluster."""

    inputs: tuple[Happening, ...]
    """Everything that was given to the cluster up to the moment."""
    schedules: tuple[str, ...]
    """The schedules of faults among them, as TOML files."""
    minimised: bool
    """Whether everything that is not needed for the bug was taken out. False: nobody has tried."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFacts:
    """A guest image."""

    role: str
    name: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """What the history is made from; with the inputs it is all of it."""

    engine: str
    made_by: str
    scenario: str
    vcpu: str
    seed: int
    machines: int
    memory_bytes: int
    quantum_ns: int
    images: tuple[ImageFacts, ...]
    schedule: str
    """The faults that were to come from the beginning, as a TOML file; empty: none."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordingFile:
    """The file that the history is in."""

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reproduction:
    """How to see it again."""

    command: str
    """For a shell: it lives through the history again, comparing everything, and ends with 0 where the bug is back."""
    look: str
    """For a shell: the cluster at the moment, to walk on from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where the history comes from."""

    recipe: Recipe
    recording: RecordingFile | None
    """None: a session that was not opened from a file."""
    reproduction: Reproduction


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Everything."""

    bug: BugFacts
    severity: Severity
    severity_why: str
    moment: MomentFacts
    property: PropertyHistory
    others: tuple[BugFacts, ...]
    """The other bugs of the history."""
    faults: tuple[FaultFacts, ...]
    timeline: tuple[Happening, ...]
    """Faults, inputs, ends and reports of the property; and the last things that each machine did. In order."""
    activity: Activity
    machines: tuple[MachineFacts, ...]
    causality: Causality | None
    """None: the machines have no network."""
    schedule: ScheduleFacts
    origin: Origin

    def as_document(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"type": "cc-tui triage", "version": VERSION, **dataclasses.asdict(self)}


__all__ = [
    "VERSION",
    "Activity",
    "BugFacts",
    "Causality",
    "ConsoleLine",
    "Evaluation",
    "FaultFacts",
    "Happening",
    "ImageFacts",
    "MachineFacts",
    "Message",
    "MomentFacts",
    "Origin",
    "Place",
    "PropertyHistory",
    "Recipe",
    "RecordingFile",
    "Report",
    "Reproduction",
    "ScheduleFacts",
    "Severity",
    "StackFrame",
]
