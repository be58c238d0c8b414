"""The agent's codec: everything survives the trip, and nothing a guest sends does more than raise AgentError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol import agent
from chaoscontrol.errors import UsageError

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
REQUESTS = st.one_of(
    st.just(agent.ListProcesses()),
    st.builds(agent.SignalPid, st.integers(1, 2**31 - 1), st.integers(0, 127)),
    st.builds(agent.SignalName, TEXTS.filter(bool), st.integers(0, 127)),
    st.builds(
        agent.Run,
        st.lists(TEXTS, min_size=1, max_size=5).map(tuple),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(agent.AdjustClock, st.integers(-(2**63), 2**63 - 1)),
    st.builds(agent.Ping, st.binary(max_size=50)),
)


def frame(op: int, payload: bytes, ident: int = 7) -> bytes:
    return struct.pack("<IIB", 5 + len(payload), ident, op) + payload


def decoded(data: bytes) -> agent.Answer:
    (one,) = agent.Decoder().feed(data)
    return agent.decode(one)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), REQUESTS), max_size=6), st.integers(1, 40))
def test_frames_survive_any_cutting_of_the_stream(requests: list[tuple[int, agent.Request]], step: int) -> None:
    stream = b"".join(agent.encode(ident, request) for ident, request in requests)
    decoder = agent.Decoder()
    frames = [one for at in range(0, len(stream), step) for one in decoder.feed(stream[at : at + step])]
    assert [(one.ident, one.op) for one in frames] == [(ident, request.OP) for ident, request in requests]
    assert decoder.pending_bytes == 0
    assert b"".join(frame(one.op, one.payload, one.ident) for one in frames) == stream


@given(st.binary(max_size=300))
def test_no_stream_does_more_than_raise(data: bytes) -> None:
    decoder = agent.Decoder()
    try:
        for one in decoder.feed(data):
            agent.decode(one)
    except agent.AgentError as error:
        assert "\n" not in str(error)
    assert decoder.pending_bytes <= 300


@given(st.sampled_from([0x01, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0xFF]), st.binary(max_size=120))
def test_no_payload_does_more_than_raise(op: int, payload: bytes) -> None:
    try:
        agent.decode(agent.Frame(1, op, payload))
    except agent.AgentError as error:
        assert "\n" not in str(error)


def test_answers() -> None:
    assert decoded(frame(0x01, b"\1\0" + bytes(range(16)) + b"\5\0\0\0", 0)) == agent.Hello(1, bytes(range(16)), 5)
    process = struct.pack("<iicQH", 9, 1, b"S", 77, 3) + b"ra)" + struct.pack("<H", 11) + b"/raft\0-v\0\xff\0"
    assert decoded(frame(0x82, b"\1\0\0\0" + process)) == agent.Processes(
        (agent.Process(9, 1, "S", 77, "ra)", ("/raft", "-v", "\\xff")),)
    )
    kernel_thread = struct.pack("<iicQHH", 2, 0, b"I", 0, 0, 0)
    assert decoded(frame(0x82, b"\1\0\0\0" + kernel_thread)) == agent.Processes((agent.Process(2, 0, "I", 0, "", ()),))
    assert decoded(frame(0x84, b"\2\0\0\0\1\0\0\0\2\0\0\0")) == agent.Signalled((1, 2))
    assert decoded(frame(0x85, b"\0\3\1\2\0\0\0hi")) == agent.Ran(agent.EXITED, 3, True, b"hi")
    assert decoded(frame(0x86, struct.pack("<q", -1))) == agent.ClockAdjusted(-1)
    assert decoded(frame(0x87, b"x")) == agent.Pong(b"x")
    failed = decoded(frame(0xFF, b"\3\0\7\0No such"))
    assert failed == agent.Failed(3, "No such")
    assert isinstance(failed, agent.Failed)
    assert failed.name == "ESRCH"
    assert agent.describe(frame(0xFF, b"\3\0\7\0No such")) == "request 0x7 failed: ESRCH No such"
    for other in (frame(0x87, b"x"), frame(0xFF, b"\3"), frame(0xFF, b"\3\0\7\0No such")[:-1], b""):
        assert agent.describe(other) == repr(other)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(0x01, b"\2\0" + bytes(20)), "speaks version 2 of the protocol"),
        (frame(0x01, b"\1\0" + bytes(19)), "in the middle of a field"),
        (frame(0x84, b"\0\0\0\0more"), "4 bytes too many"),
        (frame(0x82, b"\xff\xff\xff\xff"), "4294967295 entries"),
        (frame(0x85, b"\3\0\0\0\0\0\0"), "ended in way 3"),
        (frame(0x85, b"\0\0\0\xff\xff\xff\xff"), "in the middle of a field"),
        (frame(0x44, b""), "unknown kind 0x44"),
        (b"\4\0\0\0", "a frame of 4 bytes"),
        (b"\1\0\1\0", "a frame of 65537 bytes"),
    ],
)
def test_wrong_answers_are_named(data: bytes, message: str) -> None:
    with pytest.raises(agent.AgentError, match=message):
        decoded(data)


def test_after_a_wrong_length_the_stream_starts_afresh() -> None:
    decoder = agent.Decoder()
    with pytest.raises(agent.AgentError):
        decoder.feed(b"\0\0\0\0rest")
    assert decoder.feed(frame(0x87, b"ok")) == [agent.Frame(7, 0x87, b"ok")]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (agent.SignalPid(0, 9), "the process id: is 0"),
        (agent.SignalPid(1 << 31, 9), "the process id"),
        (agent.SignalPid(1, 128), "the signal: is 128"),
        (agent.SignalName("", 9), "the process name: is empty"),
        (agent.SignalName("a\0b", 9), "zero character"),
        (agent.Run(()), "the command: has 0 words"),
        (agent.Run(("x",) * 257), "the command: has 257 words"),
        (agent.Run(("x",), timeout_ms=-1), "the time-out: is -1"),
        (agent.Run(("x",), output_max=1 << 32), "the output limit"),
        (agent.Run(("x" * 65536,)), "a word of the command: has 65536 bytes"),
        (agent.Run(("x" * 40000, "y" * 40000)), "the request: has 80014 bytes"),
        (agent.AdjustClock(1 << 63), "the clock's offset"),
        (agent.Ping(bytes(65532)), "the request: has 65532 bytes"),
    ],
)
def test_requests_that_cannot_be_said_are_refused(request_: agent.Request, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        agent.encode(1, request_)
    assert "\n" not in str(raised.value)


def test_ids_are_32_bits() -> None:
    with pytest.raises(UsageError, match="the request's id"):
        agent.encode(1 << 32, agent.Ping())
