"""Probes: a command run in a guest, through its agent, in a fork that is thrown away.

What it does to the guest happens in no history: afterwards the cursor is where it was, in the state in which it was,
and no branch, event or recording knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoscontrol import agent
from chaoscontrol.errors import ChaosControlError, GuestError, UsageError
from chaoscontrol.events import EventKind
from chaoscontrol.timetravel import AgentInput, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel import BranchHead, Multiverse

LIMIT_NS = 60_000_000_000
"""How long a command may take unless told otherwise, virtual nanoseconds."""
GRACE_NS = 1_000_000_000
"""How long its answer is waited for after that."""
IDENT = 0xFFFF_0000
"""The request's number: the last of those that are not the fault engine's, so no other answer is taken for it."""
_KINDS = (EventKind.AGENT, EventKind.POWER)
_STEP_NS_MIN, _STEP_NS_MAX = 1_000_000, 50_000_000
_SENDING_NS = 1_000_000
"""How long a full queue is given before the rest is sent."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a command did."""

    exited: bool
    """False: it ended by a signal, or was killed when its time was over."""
    status: int
    """Exit status or signal."""
    timed_out: bool
    output: bytes
    truncated: bool
    """There was more output."""
    took_ns: int
    """Virtual time from the request to its answer."""


def probe(multiverse: Multiverse, machine: int, argv: Sequence[str], *, limit_ns: int = LIMIT_NS) -> ProbeResult:
    """Run a command in machine `machine` as it is at the cursor. Raises GuestError where no agent answers in time."""
    if not 0 <= machine < len(multiverse.machines):
        raise UsageError(f"there is no machine {machine}", hint=f"0 to {len(multiverse.machines) - 1}")
    if not multiverse.machines[machine].config.has_agent_channel:
        raise GuestError(f"machine {machine} has no channel to a guest agent", hint="use a scenario that has")
    if machine in multiverse.stopped:
        raise GuestError(f"machine {machine} has stopped", hint="go back in time")
    request = agent.encode(IDENT, agent.Run(tuple(argv), timeout_ms=min(limit_ns // 1_000_000, (1 << 32) - 1)))
    answers = _Answers(multiverse, machine)
    begin_ns = multiverse.position.vns
    with multiverse.throwaway() as head:
        _send(multiverse, head, machine, request, begin_ns + limit_ns)
        found = _wait(multiverse, answers, begin_ns + limit_ns + GRACE_NS)
    if found is None:
        where = f"after {format_seconds(limit_ns + GRACE_NS)} s"
        raise GuestError(f"no answer from the agent of machine {machine}", where=where, hint="is it up already?")
    at_ns, answer = found
    if isinstance(answer, agent.Failed):
        hint = ""
        if argv[0] == agent.SHELL:
            hint = "a guest without a shell takes a program and its arguments, as words of their own"
        raise GuestError(f"the agent cannot run {argv[0]}: {answer}", where=f"machine {machine}", hint=hint)
    if not isinstance(answer, agent.Ran):
        raise agent.AgentError("the guest agent answers something else than what was asked")
    return ProbeResult(
        answer.how == agent.EXITED,
        answer.value,
        answer.how == agent.TIMED_OUT,
        answer.output,
        answer.truncated,
        at_ns - begin_ns,
    )


def _send(multiverse: Multiverse, head: BranchHead, machine: int, data: bytes, limit_vns: int) -> None:
    while data:
        taken = head.give(AgentInput(machine, data))
        if taken is not None and isinstance(taken.input, AgentInput):
            data = data[len(taken.input.data) :]
        if data:
            if multiverse.position.vns >= limit_vns:
                raise GuestError(f"the agent of machine {machine} does not read", hint="is it up already?")
            multiverse.run_to(multiverse.position.vns + _SENDING_NS)


def _wait(multiverse: Multiverse, answers: _Answers, limit_vns: int) -> tuple[int, agent.Answer] | None:
    step_ns = _STEP_NS_MIN
    while True:
        found = answers.look()
        if found is not None or multiverse.position.vns >= limit_vns or multiverse.all_stopped:
            return found
        multiverse.run_to(min(multiverse.position.vns + step_ns, limit_vns))
        step_ns = min(step_ns * 2, _STEP_NS_MAX)


class _Answers:
    """Reads what an agent sends from its beginning: the cursor may stand in the middle of a frame."""

    def __init__(self, multiverse: Multiverse, machine: int) -> None:
        self._multiverse = multiverse
        self._machine = machine
        self._decoder = agent.Decoder()
        self._read = 0
        self.look()  # answers by now are to other questions

    def look(self) -> tuple[int, agent.Answer] | None:
        """The answer, if it has come, and when."""
        events = self._multiverse.events_so_far()
        # Of one machine and these kinds, none is dated before one that was there earlier.
        own = [event for event in events if event.vm == self._machine and event.kind in _KINDS]
        fresh, self._read = own[self._read :], len(own)
        for event in fresh:
            found = self._take(event)
            if found is not None:
                return event.vns, found
        return None

    def _take(self, event: Event) -> agent.Answer | None:
        if event.kind is EventKind.POWER:
            self._decoder = agent.Decoder()  # what it was about to say is lost
            return None
        assert isinstance(event.data, bytes), "that is what an agent sends"
        try:
            frames = self._decoder.feed(event.data)
        except agent.AgentError:
            return None
        for frame in frames:
            if frame.ident == IDENT:
                return _decoded(frame)
        return None


def _decoded(frame: agent.Frame) -> agent.Answer:
    try:
        return agent.decode(frame)
    except ChaosControlError as error:
        raise agent.AgentError(f"its answer cannot be read: {error.what}", where="the guest agent") from None


__all__ = ["IDENT", "LIMIT_NS", "ProbeResult", "probe"]
