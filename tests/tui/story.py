"""A made-up cluster to show: three Raft nodes under faults, as an engine would tell of them at each moment.

Times are those of the toy cluster, whose machines live for some hundred microseconds.
"""

import dataclasses
import json

from cc_tui.pictures import ClusterView, Failure, LinkView
from chaoscontrol import faults as f
from chaoscontrol.coverage import CELLS
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FaultSpan
from chaoscontrol.in_flight import PacketId, PacketInFlight
from chaoscontrol.network import LinkCounters, LinkParams
from chaoscontrol.oracle import At, PropertyKind, PropertyResult, Verdict
from chaoscontrol.protocol import Command, SdkEvent, Status
from chaoscontrol.timetravel import EventLog

US = 1_000
MACHINES = 3

FAULTS = (
    FaultSpan(0, f.PacketLoss(0, 50_000), 60 * US, 140 * US),
    FaultSpan(1, f.NetworkPartition((0,), (1, 2)), 180 * US, 320 * US),
    FaultSpan(2, f.ProcessKill(1, "torn"), 240 * US, 300 * US),
    FaultSpan(3, f.ClockJump(2, -1_500_000_000), 330 * US, 330 * US),
    FaultSpan(4, f.DiskLatencySpike(2, spike_ns=2_500_000), 360 * US, 480 * US),
    FaultSpan(5, f.OneWayPartition((2,), (0,)), 420 * US, 470 * US),
    FaultSpan(6, f.HealAll(), 480 * US, 480 * US),
    FaultSpan(7, f.NetworkJitter(1, 1_000_000, direction="out"), 490 * US, None),
)
BROKEN = At(350 * US, 2, 2_101)
NEVER_TWO = "Election safety: at most one leader per term"
FAILURES = (
    Failure(BROKEN, NEVER_TWO, '{"term": 3, "leaders": [0, 2]}'),
    Failure(At(450 * US, -1, 0), "one leader after healing", "no node leads"),
)
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 [bold]name[/] \u202e\u200b\ue000\x9b5n a\u0301\u0301\u0301 \n\ttab"


def properties(now: int) -> tuple[PropertyResult, ...]:
    """How they stand at a time."""
    broken = now >= BROKEN.vns
    passes = now // 100
    return (
        PropertyResult("Log matching", PropertyKind.ALWAYS, 12 * passes, 0, At(40 * US, 0, 100)),
        PropertyResult(
            NEVER_TWO, PropertyKind.ALWAYS_OR_UNREACHABLE, passes, 2 * broken, At(44 * US, 1, 120),
            BROKEN if broken else None, FAILURES[0].details if broken else "",
        ),
        PropertyResult("a leader was elected", PropertyKind.SOMETIMES, passes // 9, 0, At(50 * US, 0, 140)),
        PropertyResult("a snapshot was installed", PropertyKind.REACHABLE),
        PropertyResult("one leader after healing", PropertyKind.EVENTUALLY),
        PropertyResult("no kernel panic", PropertyKind.UNREACHABLE),
        PropertyResult(HOSTILE, PropertyKind.SOMETIMES, 3, 0, At(70 * US, 1, 300)),
    )  # fmt: skip


def links(now: int) -> tuple[LinkView, ...]:
    """Every direction at a time."""
    effects = f.effects_of([span.fault for span in FAULTS if span.active_at(now)], MACHINES)
    found = []
    for (src, dst), effect in sorted(effects.links.items()):
        normal = LinkParams()
        params = dataclasses.replace(normal, down=effect.down, loss_ppm=effect.loss_ppm)
        sent = now // 500 * (src + 1)
        lost = sent // 7 if params != normal else 0
        counters = LinkCounters(sent, 90 * sent, sent - lost, 90 * (sent - lost), lost if effect.down else 0,
                                0 if effect.down else lost, 0, 0, 0, 0, 0)  # fmt: skip
        found.append(LinkView(src, dst, params, params == normal, counters))
    return tuple(found)


def in_flight(now: int) -> tuple[PacketInFlight, ...]:
    """An answer on its way, twice, and a question; then nothing that could be read."""
    ip = bytes.fromhex("4500003400010000400600000a0000030a000002") + bytes.fromhex(
        "1b58a0f900000001000000025018ffff00000000"
    )
    frame = bytes(12) + b"\x08\x00" + ip + HOSTILE.encode()[:12]
    return (
        PacketInFlight(PacketId(2, 57, 1), now + 41_250, frame),
        PacketInFlight(PacketId(2, 57, 1, 1), now + 1_500_000, frame),
        PacketInFlight(PacketId(1, 9, 2), now + 2_000_000, HOSTILE.encode()),
    )


def coverage(now: int) -> tuple[bytes | None, ...]:
    """Counters that grow with time; machine 2 has no map."""
    maps: list[bytes | None] = []
    for machine in range(MACHINES - 1):
        counters = bytearray(CELLS)
        for edge in range(now // US):
            at = (edge * 40_503 + machine * 977) % CELLS
            counters[at] = min(1 + (now // US - edge) * (edge % 5) // 9, 255)
        maps.append(bytes(counters))
    return (*maps, None)


def sdk(vns: int, vm: int, message: str, details: object, *, failed: bool = False) -> Event:
    """An SDK event."""
    command = Command.ALWAYS if failed else Command.SEND_EVENT
    status = Status.ALWAYS_FAILED if failed else Status.OK
    data = SdkEvent(command, not failed, status, 7, 0, message, json.dumps(details))
    return Event(vns, vm, vns // 170, EventKind.SDK, data)


def events() -> list[Event]:
    """In their one order."""
    found = [Event(at * US, at % MACHINES, at, EventKind.CONSOLE, f"line {at}") for at in range(0, 400, 10)]
    found += [
        sdk(45 * US, 0, "became_leader", {"term": 1}),
        sdk(265 * US, 2, "became_leader", {"term": 3}),
        Event(332 * US, -1, 0, EventKind.FAULT, "not done: machine 2: no guest agent answers"),
        dataclasses.replace(sdk(350 * US, 2, NEVER_TWO, {"term": 3}, failed=True), instret=BROKEN.instret),
        sdk(390 * US, 2, NEVER_TWO, {"term": 3}, failed=True),
        sdk(395 * US, 1, HOSTILE, {"a": HOSTILE}),
    ]
    return sorted(found, key=lambda event: (event.vns, event.vm))


LOG = EventLog()
LOG.append(events())


def look(looker, multiverse, *, closely: bool) -> ClusterView:
    """What `cc_tui.looker.Looker.look` would give."""
    now = multiverse.position.vns
    return ClusterView(
        faults=FAULTS,
        failures=FAILURES,
        properties=properties(now),
        links=links(now),
        in_flight=in_flight(now),
        coverage=coverage(now) if closely else (),
        events=LOG,
        events_total=sum(1 for event in LOG.read(0, LOG.total) if event.vns <= now),
    )


assert properties(BROKEN.vns)[1].verdict is Verdict.FAILED
