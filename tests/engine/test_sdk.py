"""The SDK port: answers, counters and events, by flat guests that make requests the test wrote into their page."""

import struct

import pytest
from flat_guests import start
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol import random
from chaoscontrol.protocol import HYPERCALL_GPA, Command, ProtocolError, Request, SdkEvent, Status, fnv1a
from chaoscontrol.values import StopKind

# Requests are laid out by the test; the guest copies one page after the other into the hypercall page and triggers it.
CALLS = 0x200000
GUEST = f"""
    mov ebx, {CALLS}
next:
    mov esi, ebx
    mov edi, {HYPERCALL_GPA}
    mov ecx, 512
    rep movsq
    mov dx, 0x510
    xor eax, eax
    out dx, al
    mov esi, {HYPERCALL_GPA}
    mov edi, ebx
    mov ecx, 512
    rep movsq
    add ebx, 4096
    cmp ebx, [{CALLS - 8}]
    jb next
    hlt
"""


def make(pages, **config):
    vm = start(GUEST, **config)
    vm.write_memory(CALLS - 8, struct.pack("<Q", CALLS + 4096 * len(pages)))
    for i, page in enumerate(pages):
        vm.write_memory(CALLS + 4096 * i, page if isinstance(page, bytes) else page.encode())
    return vm


def answers(vm, count):
    return [Request.decode(vm.read_memory(CALLS + 4096 * i, 4096)) for i in range(count)]


def sdk_events(vm):
    events, lost = vm.take_raw_events()
    assert not lost
    return [SdkEvent.decode(e.payload) for e in events]


def request(command, message="", json="", **fields):
    return Request(command, id=fields.pop("id", fnv1a(message)), message=message.encode(), json=json.encode(), **fields)


def test_assertions_are_answered_counted_and_told():
    calls = [
        request(Command.ALWAYS, "a", condition=True),
        request(Command.ALWAYS, "a", condition=True),
        request(Command.ALWAYS, "a", '{"x": 1}', condition=False),
        request(Command.SOMETIMES, "s", condition=False),
        request(Command.SOMETIMES, "s", condition=True),
        request(Command.REACHABLE, "r"),
        request(Command.UNREACHABLE, "u"),
    ]
    with make(calls) as vm:
        assert vm.run().kind is StopKind.HALTED
        assert [a.status for a in answers(vm, len(calls))] == [0, 0, 2, 0, 0, 0, 3]
        counts = {p.message: (p.command, p.passes, p.fails) for p in vm.properties()}
        assert counts == {"a": (1, 2, 1), "s": (2, 1, 1), "r": (3, 1, 0), "u": (4, 0, 1)}
        assert all(p.id == fnv1a(p.message) for p in vm.properties())
        told = [(e.message, e.condition, e.evaluations, e.failed) for e in sdk_events(vm)]
        assert told == [
            ("a", True, 1, False),
            ("a", False, 3, True),
            ("s", False, 1, False),
            ("s", True, 2, False),
            ("r", False, 1, False),
            ("u", False, 1, True),
        ]


def test_the_moment_is_that_of_the_request():
    with make([request(Command.ALWAYS, "a")]) as vm:
        vm.run()
        (event,) = vm.take_raw_events()[0]
        (counts,) = vm.properties()
        assert counts.first_fail == (event.vns, event.instret) and counts.first_pass is None
        vm2 = make([request(Command.ALWAYS, "a")])
        vm2.run(instret=event.instret)
        assert vm2.properties() == []
        vm2.run(instret=event.instret + 1)
        assert [p.fails for p in vm2.properties()] == [1]
        vm2.close()


def test_random_is_the_stream_of_the_machines_seed():
    calls = [request(Command.RANDOM_GET), request(Command.RANDOM_CHOICE, id=6), request(Command.RANDOM_CHOICE, id=0)]
    with make(calls, seed=7) as vm:
        vm.run()
        got = answers(vm, 3)
        stream = random.Stream(7, "sdk")
        assert got[0].result == stream.u64()
        assert got[1].result == stream.below(6)
        assert got[2].status == Status.ERROR


def test_lifecycle_and_catalog():
    calls = [
        request(Command.CATALOG, "a", '{"kind": "always"}'),
        request(Command.CATALOG, "a", '{"kind": "always"}'),
        request(Command.SEND_EVENT, "started", '{"n": 1}'),
        request(Command.SETUP_COMPLETE, "", '{"ok": true}'),
        request(Command.SETUP_COMPLETE),
        request(Command.COVERAGE_INIT),
        request(Command.GUIDANCE, "g", '{"left": 1, "right": 2}'),
    ]
    with make(calls) as vm:
        assert vm.setup_vns is None and not vm.coverage_active
        vm.run()
        events = vm.take_raw_events()[0]
        decoded = [SdkEvent.decode(e.payload) for e in events]
        assert [e.command for e in decoded] == [
            Command.CATALOG,
            Command.SEND_EVENT,
            Command.SETUP_COMPLETE,
            Command.SETUP_COMPLETE,
            Command.COVERAGE_INIT,
            Command.GUIDANCE,
        ]
        assert decoded[1].message == "started" and decoded[1].details == {"n": 1}
        assert vm.setup_vns == events[2].vns and vm.coverage_active


def test_setup_can_be_forced():
    with make([request(Command.RANDOM_GET)]) as vm:
        vm.force_setup_complete()
        assert vm.setup_vns == 0


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (0, b"\x77"),  # no such command
        (8, b"\xe1\x0f"),  # a payload of 4065 bytes
        (0x20, b"\xff\xff"),  # a message that passes the payload's end
        (8, b"\x01\x00"),  # half a length
    ],
)
def test_contradictory_requests_are_errors(at, data):
    page = bytearray(request(Command.ALWAYS, "message", "{}", condition=True).encode())
    page[at : at + len(data)] = data
    with make([bytes(page)]) as vm:
        vm.run()
        assert vm.read_memory(CALLS + 0x18, 1) == b"\x01"
        assert vm.properties() == [] and sdk_events(vm) == []


def test_a_table_that_is_full_still_tells():
    calls = [request(Command.REACHABLE, f"p{i}") for i in range(4100)]
    with make(calls, memory_bytes=64 << 20) as vm:
        vm.run()
        assert len(vm.properties()) == 4096
        assert len(sdk_events(vm)) == 4100


def test_going_back_takes_back_what_was_counted():
    calls = [request(Command.ALWAYS, "a", condition=i % 2 == 0) for i in range(50)]
    with make(calls) as vm:
        vm.run(instret=15_000)
        before, digest, state = vm.properties(), vm.digest(), vm.snapshot()
        vm.run()
        after, end = vm.properties(), vm.digest()
        assert after != before
        vm.restore(state)
        assert vm.properties() == before and vm.digest() == digest
        vm.run()
        assert vm.properties() == after and vm.digest() == end
        state.close()


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=0, max_size=64), st.binary(min_size=0, max_size=64), st.integers(0, 255))
def test_pages_round_trip(message, json, command):
    sent = Request(command, True, 5, message, json)
    assert Request.decode(sent.encode()) == sent


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=0x60, max_size=0x60))
def test_the_engine_and_the_parser_refuse_the_same_pages(head):
    page = head.ljust(4096, b"\0")
    try:
        parsed = Request.decode(page)
    except ProtocolError:
        parsed = None
    with make([page]) as vm:
        vm.run()
        status = vm.read_memory(CALLS + 0x18, 1)[0]
        if parsed is None:
            assert status == Status.ERROR
        elif parsed.command in list(Command) and not (parsed.command == Command.RANDOM_CHOICE and parsed.id == 0):
            assert status != Status.ERROR
        else:
            assert status == Status.ERROR
