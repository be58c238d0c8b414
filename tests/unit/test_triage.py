"""Triage without machines: what frames are, what happened before what, and reports of what a hostile guest says."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.triage.make import render
from chaoscontrol.network import CapturedFrame, Fate
from chaoscontrol.oracle import PropertyKind, PropertyResult
from chaoscontrol.packets import read_packet
from chaoscontrol.triage import Report, Severity
from chaoscontrol.triage import report as r
from chaoscontrol.triage.causality import causality, chain, reaches
from chaoscontrol.triage.collect import severity_of
from guest.programs.raft.wire import checksum32, describe_message

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "triage.md").read_text()

# ---- frames ---------------------------------------------------------------------------------------------------------


def tcp(payload: bytes, flags: int = 0x18, *, total: int | None = None) -> bytes:
    segment = struct.pack(">HHIIBBHHH", 7000, 41000, 1, 2, 5 << 4, flags, 100, 0, 0) + payload
    return ethernet(0x0800, ipv4(6, segment, total=total))


def ipv4(protocol: int, inside: bytes, *, total: int | None = None) -> bytes:
    size = 20 + len(inside) if total is None else total
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, protocol, 0, b"\n\0\0\1", b"\n\0\0\2") + inside


def ethernet(kind: int, body: bytes) -> bytes:
    return bytes(12) + kind.to_bytes(2) + body


@pytest.mark.parametrize(
    ("frame", "summary", "payload"),
    [
        (tcp(b"hello"), "TCP 10.0.0.1:7000 > 10.0.0.2:41000 [PSH ACK] seq 1 ack 2 len 5", b"hello"),
        (tcp(b"", 0x10), "TCP 10.0.0.1:7000 > 10.0.0.2:41000 [ACK] seq 1 ack 2 len 0", b""),
        (tcp(b"", 0x02), "TCP 10.0.0.1:7000 > 10.0.0.2:41000 [SYN] seq 1 ack 2 len 0", b""),
        (tcp(b"x", 0x11), "TCP 10.0.0.1:7000 > 10.0.0.2:41000 [FIN ACK] seq 1 ack 2 len 1", b"x"),
        # Ethernet frames have at least 60 bytes: what comes after the packet is padding.
        (tcp(b"hi") + bytes(4), "TCP 10.0.0.1:7000 > 10.0.0.2:41000 [PSH ACK] seq 1 ack 2 len 2", b"hi"),
        (tcp(b"", total=9), "IPv4 with lengths that cannot be", b""),
        (ethernet(0x0800, ipv4(17, struct.pack(">HHHH", 53, 9, 11, 0) + b"abc")),
         "UDP 10.0.0.1:53 > 10.0.0.2:9 len 3", b"abc"),
        (ethernet(0x0800, ipv4(1, bytes([8, 0, 0, 0, 0, 1, 0, 2]))),
         "ICMP 10.0.0.1 > 10.0.0.2 echo request seq 2 len 0", b""),
        (ethernet(0x0806, bytes.fromhex("0001080006040001") + bytes(6) + b"\n\0\0\1" + bytes(6) + b"\n\0\0\2"),
         "ARP who has 10.0.0.2, says 10.0.0.1", b""),
        (ethernet(0x86DD, bytes(40)), "IPv6 len 40", b""),
        (b"short", "5 bytes, no Ethernet frame", b""),
    ],
)  # fmt: skip
def test_a_frame_is_taken_apart(frame: bytes, summary: str, payload: bytes) -> None:
    assert read_packet(frame) == (summary, payload)


@given(st.binary(max_size=80), st.sampled_from([b"", tcp(b"abcdef"), ethernet(0x0800, b""), ethernet(0x0806, b"")]))
def test_any_bytes_are_a_frame(data: bytes, head: bytes) -> None:
    for cut in range(len(head) + 1):
        read_packet(head[:cut] + data)


def raft(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), checksum32(payload)) + payload


def test_what_raft_nodes_say() -> None:
    vote = struct.pack("<BBBBBIIIQIII25xI", 2, 2, 2, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0)
    append = struct.pack("<BBBBBIIIQIII25xI", 2, 3, 2, 1, 0, 7, 44, 6, 9, 43, 45, 1, 0)
    assert describe_message(raft(vote)) == "vote granted, term 7"
    both = raft(vote) + raft(append) + raft(append)[:20]
    assert describe_message(both) == (
        "vote granted, term 7; append, term 7: heartbeat after 44 of term 6, committed 43; part of a message"
    )
    assert describe_message(raft(vote)[:-1] + b"\1") == "a damaged message"
    assert describe_message(raft(struct.pack("<BB?", 1, 2, True))) == "hello from the client of node 2"


@given(st.binary(max_size=64), st.integers(0, 8))
def test_raft_messages_may_be_anything(data: bytes, kind: int) -> None:
    describe_message(data)
    describe_message(raft(bytes([kind]) + data))


# ---- what happened before what --------------------------------------------------------------------------------------


def frame(src: int, dst: int, sent: int, arrival: int | None, data: bytes = tcp(b"data")) -> CapturedFrame:
    fate = Fate.DELIVERED if arrival is not None else Fate.LOST_DOWN
    return CapturedFrame(sent, sent, arrival, 0, src, dst, fate, data)


def test_a_reach_is_what_could_reach_the_failure() -> None:
    frames = [
        frame(2, 1, 10, 20),
        frame(1, 0, 15, 40),  # before vm1 had heard of vm2
        frame(2, 0, 50, 110),  # too late
        frame(1, 2, 60, 70),
        frame(0, 1, 75, None),
    ]
    found, past = reaches(frames, 3, 0, 100)
    assert found == [100, 15, None]
    assert past == {1}
    found, past = reaches([*frames, frame(1, 0, 30, 90)], 3, 0, 100)
    assert found == [100, 30, 10]
    assert past == {0, 1, 5}
    assert chain([*frames, frame(1, 0, 30, 90)], 0, 100) == [5, 0]
    assert chain([*frames, frame(1, 0, 30, 90, tcp(b"", 0x10))], 0, 100) == [1], "an acknowledgement says nothing"
    assert reaches(frames, 3, None, 100)[0] == [100, 100, 100]


FRAMES = st.lists(
    st.builds(
        lambda src, hop, sent, delay: frame(src, (src + hop) % 4, sent, sent + delay if delay else None),
        st.integers(0, 3), st.integers(1, 3), st.integers(0, 60), st.integers(0, 15),
    ),
    max_size=40,
)  # fmt: skip


@given(FRAMES, st.integers(0, 3), st.integers(0, 70))
def test_one_pass_finds_all_that_happened_before(frames: list[CapturedFrame], vm: int, vns: int) -> None:
    """Against the definition, to a fixed point."""
    found: list[int | None] = [vns if machine == vm else None for machine in range(4)]
    past: set[int] = set()
    changed = True
    while changed:
        changed = False
        for at, one in enumerate(frames):
            reach = found[one.dst]
            if at not in past and one.arrival_vns is not None and reach is not None and one.arrival_vns <= reach:
                past.add(at)
                found[one.src] = max(found[one.src] or 0, one.sent_vns)
                changed = True
    assert reaches(frames, 4, vm, vns) == (found, past)


@given(FRAMES, st.integers(0, 70))
def test_a_chain_goes_back_in_time(frames: list[CapturedFrame], vns: int) -> None:
    known = causality(frames, vms=4, vm=0, vns=vns, from_vns=0)
    for vm, links in enumerate(known.chains):
        here, now = vm, vns
        for at in links:
            message = known.messages[at]
            assert message.dst == here
            assert message.arrival_vns is not None
            assert message.sent_vns <= message.arrival_vns <= now
            here, now = message.src, message.sent_vns
        if vm == 0:
            assert all(known.messages[at].in_past for at in links)


def test_severity() -> None:
    assert severity_of("no kernel panic", None)[0] is Severity.CRITICAL
    assert severity_of("no guest ends by itself", None)[0] is Severity.CRITICAL
    assert severity_of("x", PropertyResult("x", PropertyKind.ALWAYS, fails=1))[0] is Severity.HIGH
    assert severity_of("x", PropertyResult("x", PropertyKind.EVENTUALLY, fails=1))[0] is Severity.MEDIUM


# ---- reports --------------------------------------------------------------------------------------------------------

HOSTILE = "a|b `` <script>alert(1)</script> @everyone #1 \x1b[31m\x07\n## no heading\ud800 http://example.com/x.png"


def made_up(text: str) -> Report:
    """A report in which every text of the guest is `text`."""
    place = r.Place(5_000_000, 1, 77)
    happening = r.Happening(place, "console", text, True)
    messages = tuple(
        r.Message(src, 1 - src, 4_000_000 + src, arrival, "delivered", text, text, 9, "00ff", True)
        for src, arrival in ((0, 4_500_000), (1, None), (1, 4_600_000))
    )
    machines = tuple(
        r.MachineFacts(vm, "running", 78, 0xFFFFFFFF81000000, "user", text, (r.StackFrame(1, text),), {"rip": 1},
                       (happening,), (r.ConsoleLine(1, 3, text),))
        for vm in range(2)
    )  # fmt: skip
    bug = r.BugFacts(1, "main", text, text, place)
    return Report(
        bug=bug, severity=Severity.HIGH, severity_why="why",
        moment=r.MomentFacts("main@0.005:1", "main@0.005", 5_000_001, 0, 50),
        property=r.PropertyHistory("always", 3, 1, place, place, (r.Evaluation(place, False, 4, text),)),
        others=(bug,),
        faults=(
            r.FaultFacts(0, "network_partition", text, "P", 1_000_000, None, (0, 1), True),
            r.FaultFacts(1, "process_pause", text, "Z", 2_000_000, 3_000_000, (1,), False),
            r.FaultFacts(2, "heal_all", text, "H", 3_000_000, 3_000_000, (), False),
        ),
        timeline=(happening,) * 50, activity=r.Activity(40_000, ((1,) * 125, (0,) * 125)), machines=machines,
        causality=r.Causality(0, False, messages, ((2,), (0,)), (5_000_001, None), 3, 1, 2),
        schedule=r.ScheduleFacts((r.Happening(place, "input", text, False),), ('origin = "boot"\n',), False),
        origin=r.Origin(
            r.Recipe("0.1.0", text, text, "soft", 1, 2, 1 << 26, 100_000, (r.ImageFacts("kernel", text, "00", 9),),
                     "a = 1\n"),
            r.RecordingFile("bug.ccrec", 1000, "ab" * 32),
            r.Reproduction("cc-tui replay bug.ccrec --bug 1", "cc-tui open bug.ccrec --at main@0.005:1"),
        ),
    )  # fmt: skip


REPORT = made_up(HOSTILE)


class Page(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_file_in_which_nothing_runs_and_nothing_is_loaded() -> None:
    text = render(REPORT, "html")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "a", "image", "use", "foreignobject"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href", "xlink:href", "style")}
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert page.tags.count("svg") == 2
    assert "&lt;script&gt;" in text
    assert not set(text) & {"\x1b", "\x07", "\ud800"}
    text.encode()


def test_html_uses_the_classes_that_the_style_sheet_has() -> None:
    text = render(REPORT, "html")
    style = text[text.index("<style>") : text.index("</style>")]
    used = {name for key, value in Page(text).attributes if key == "class" for name in (value or "").split()}
    assert used - {"mono", "text", "copy"} <= set(re.findall(r"\.([a-z][\w-]*)", style)) | {"high"}


def test_markdown_holds_what_guests_say_in_code() -> None:
    text = render(REPORT, "markdown")
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", outside)
    for sign in ("<script", "@everyone", "#1", "http:"):
        assert sign not in outside
    assert not re.search(r"(?m)^## no heading", text)
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    widths = {line.replace("\\|", "").count("|") for line in tables}
    assert widths <= {3, 4, 5, 6}
    assert "\x1b" not in text


def test_json_is_the_document_that_is_written_down() -> None:
    document = json.loads(render(REPORT, "json"))
    assert (document["type"], document["version"]) == ("cc-tui triage", r.VERSION)
    assert document["bug"]["name"] == HOSTILE
    assert document["causality"]["messages"][1]["arrival_vns"] is None


def classes(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """All dataclasses that a report is made of, by name."""
    if dataclasses.is_dataclass(kind):
        found.setdefault(kind.__name__, kind)  # type: ignore[union-attr]
        for hint in get_type_hints(kind).values():
            classes(hint, found)
    for argument in get_args(kind):
        classes(argument, found)
    return found


def test_every_field_is_in_the_document() -> None:
    for name, kind in classes(Report, {}).items():
        section = re.search(rf"(?ms)^### {name}\n(.*?)(?=^###? |\Z)", DOCUMENT)
        assert section is not None, name
        listed = re.findall(r"(?m)^\| `(\w+)` \|", section[1])
        assert listed == [field.name for field in dataclasses.fields(kind)], name
