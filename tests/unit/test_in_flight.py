"""Packets in flight as values: overwriting, checksums, what captures say of edits, and how a person writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.recordings import every_kind_header

from cc_tui.commands import CommandError, parse
from cc_tui.commands.help import help_lines
from cc_tui.commands.packets import EDITS, FORMS
from chaoscontrol import UsageError, wire_frames
from chaoscontrol.captures import merge_edits
from chaoscontrol.checksums import corrections
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketEdit, PacketId
from chaoscontrol.network import CapturedFrame, Fate
from chaoscontrol.packets import payload_at, read_packet
from chaoscontrol.recording import Recorder, load_recording, read_packets
from chaoscontrol.timetravel import GivenInput, PacketInput, Position, describe
from chaoscontrol.triage.causality import causality

PACKET = PacketId(0, 57, 1)
SEGMENT = bytes.fromhex(
    "52540012340152540012340008004500003c1c4640004006b1d90a0000010a000002e3f2232800000001000000015018ffff"
    "00000000"
) + b"twenty bytes of data"  # fmt: skip
"""TCP over IPv4 over Ethernet, its checksums not right yet."""


def right(frame: bytes) -> bytes:
    return Overwrite(corrections(frame)).over(frame)


def ones_sum(data: bytes) -> int:
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packet(protocol: int, header: bytes, data: bytes, options: bytes = b"", flags: int = 0) -> bytes:
    ip = bytes((0x40 + (20 + len(options)) // 4, 0)) + (20 + len(options) + len(header) + len(data)).to_bytes(2)
    ip += bytes((1, 2)) + flags.to_bytes(2) + bytes((64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)) + options
    return bytes(12) + b"\x08\x00" + ip + header + data


# ---- bytes -----------------------------------------------------------------------------------------------------------


def test_bytes_are_written_where_they_are_to_stand() -> None:
    assert Overwrite(((0, b"ab"), (5, b"z"), (1, b"c"))).over(b"123456") == b"ac345z"


@pytest.mark.parametrize("piece", [(6, b"x"), (5, b"xy"), (-1, b"x"), (1 << 40, b"x")])
def test_bytes_outside_are_refused(piece: tuple[int, bytes]) -> None:
    with pytest.raises(UsageError, match=r"are not in a frame of 6 bytes"):
        Overwrite(((0, b"ok"), piece)).over(b"123456")


@given(
    st.sampled_from([(6, 16, bytes(12) + b"\x50" + bytes(7)), (17, 6, bytes(6) + b"\1\1"), (1, 2, b"\x08" + bytes(7))]),
    st.binary(max_size=60),
    st.sampled_from([b"", b"\1\1\1\1"]),
)
def test_corrected_checksums_add_up(kind: tuple[int, int, bytes], data: bytes, options: bytes) -> None:
    protocol, _, header = kind
    frame = right(packet(protocol, header, data, options))
    assert corrections(frame) == ()
    ip = frame[14 : 34 + len(options)]
    assert ones_sum(ip) == 0xFFFF
    inside = frame[34 + len(options) :]
    pseudo = b"" if protocol == 1 else ip[12:20] + bytes((0, protocol)) + len(inside).to_bytes(2)
    assert ones_sum(pseudo + inside) == 0xFFFF


def test_checksums_that_are_not_there_stay_so() -> None:
    without = packet(17, bytes(8), b"no checksum")
    assert [at for at, _ in corrections(without)] == [24], "only the IP header's"
    fragment = packet(6, bytes(12) + b"\x50" + bytes(7), b"data", flags=0x2000)
    assert [at for at, _ in corrections(fragment)] == [24], "what is above has its checksum over all fragments"


@given(st.binary(max_size=80), st.sampled_from([b"\x08\x00", b"\x08\x06"]))
def test_anything_can_be_asked_about(data: bytes, kind: bytes) -> None:
    frame = bytes(12) + kind + data
    assert right(frame)[:14] == frame[:14]
    begin = payload_at(frame)
    assert begin is None or frame[begin:].startswith(read_packet(frame).payload)


def test_a_payload_is_found_behind_options_and_before_padding() -> None:
    header = bytes(12) + b"\x80" + bytes(19)
    assert payload_at(packet(6, header, b"data", b"\1\1\1\1") + bytes(9)) == 14 + 24 + 32
    assert payload_at(packet(6, header, b"")) is None


# ---- captures --------------------------------------------------------------------------------------------------------

SENT = CapturedFrame(100, 40, 150, 57, 0, 1, Fate.DELIVERED, b"abc")


def taken(frame: CapturedFrame, vns: int) -> CapturedFrame:
    return dataclasses.replace(frame, switched_vns=vns, sent_vns=vns, fate=Fate.TAKEN)


def put(frame: CapturedFrame, vns: int, fate: Fate = Fate.DELIVERED | Fate.EDITED, **changes) -> CapturedFrame:
    return dataclasses.replace(frame, switched_vns=vns, sent_vns=vns, fate=fate, **changes)


def test_a_merged_capture_says_what_became_of_each_copy() -> None:
    other = dataclasses.replace(SENT, dst=2)
    doubled = dataclasses.replace(SENT, fate=Fate.DELIVERED | Fate.DUPLICATE)
    moved = put(SENT, 110, arrival_vns=300)
    copied = put(SENT, 130, Fate.DELIVERED | Fate.DUPLICATE | Fate.EDITED, arrival_vns=500)
    frames = [
        SENT, other, doubled,
        taken(SENT, 110), moved, taken(moved, 120), put(moved, 120, data=b"abd"), copied, taken(other, 140),
    ]  # fmt: skip
    edited = dataclasses.replace(SENT, arrival_vns=300, data=b"abd", fate=Fate.DELIVERED | Fate.EDITED)
    dropped = dataclasses.replace(other, arrival_vns=None, fate=Fate.TAKEN)
    assert merge_edits(frames) == [
        edited, dropped, doubled, dataclasses.replace(copied, switched_vns=100, sent_vns=40)
    ]  # fmt: skip
    assert merge_edits(frames[:3]) == frames[:3]
    assert merge_edits(frames[3:]) == [], "nobody saw it being sent"
    after = taken(copied, 150)
    assert [f.arrival_vns for f in merge_edits([*frames, after])] == [300, None, 150, None]


def test_a_machine_saw_what_edits_left() -> None:
    moved = put(SENT, 110, arrival_vns=300, data=b"xyz")
    frames = [SENT, taken(SENT, 110), moved]
    assert [(f.vns, f.sent, f.data, f.comment) for f in wire_frames(frames)] == [(40, True, b"abc", "to vm1: edited")]
    assert [(f.vns, f.sent, f.data, f.comment) for f in wire_frames(frames, 1)] == [(300, False, b"xyz", "edited")]
    (sent,) = wire_frames([SENT, taken(SENT, 110)], 0)
    assert sent.comment == "to vm1: lost: an edit took it away"
    assert wire_frames([SENT, taken(SENT, 110)], 1) == []


def test_a_dropped_packet_led_to_nothing() -> None:
    frame = dataclasses.replace(SENT, data=SEGMENT)
    late = put(frame, 110, arrival_vns=900)
    for frames, fate, past in (
        ([frame], "delivered", 1),
        ([frame, taken(frame, 110)], "lost: an edit took it away", 0),
        ([frame, taken(frame, 110), late], "in flight, edited", 0),
    ):
        found = causality(frames, vms=2, vm=1, vns=500, from_vns=0)
        assert ([message.fate for message in found.messages], found.in_past) == ([fate], past)


def test_a_branch_has_the_edits_of_its_own_line_only(tmp_path: Path) -> None:
    """Where another branch leaves between two edits of one instant, before and after all; at a tick's end, too."""
    path, at_ns = tmp_path / "lines.ccrec", 200_000
    other = dataclasses.replace(SENT, serial=9, switched_vns=at_ns, sent_vns=110_000, arrival_vns=260_000)
    before = dataclasses.replace(SENT, switched_vns=100_000, arrival_vns=251_000)
    first = [taken(before, at_ns), put(before, at_ns, arrival_vns=300_000)]
    second = [taken(other, at_ns)]
    edits: list[tuple[PacketId, PacketEdit]] = [(PACKET, ArriveAt(300_000)), (PacketId(0, 9, 1), Drop())]
    with Recorder(path, every_kind_header(), packets=True) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.switched("main", [before, other])
        for number, (named, edit) in enumerate(edits):
            recorder.input_given("main", GivenInput(Position(at_ns, number), 0, PacketInput(named, edit)))
        recorder.switched("main", [*first, *second])
        for ordinal in range(3):
            recorder.branch_made(f"b{ordinal}", "main", Position(at_ns, ordinal))
            recorder.flush()
    with load_recording(path) as recording:
        main = recording.branch()
        lines = [[before, other], [before, other, *first], [before, other, *first, *second]]
        for ordinal, expected in enumerate(lines):
            assert read_packets(recording, recording.branch(f"b{ordinal}")) == expected
            rest = lines[-1][len(expected) :]
            assert list(recording.packets_after(main, Position(at_ns, ordinal))) == rest
        assert read_packets(recording, main) == lines[-1]


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Drop(), "dropped frame 57 of vm0 to vm1"),
        (ArriveAt(1_500_000_000), "frame 57 of vm0 to vm1 arrives at 1.500000000 s"),
        (CopyAt(2), "frame 57 of vm0 to vm1 arrives once more, at 0.000000002 s"),
        (Overwrite(((66, b"\xff"), (50, b"\x12\x34"))), "wrote into frame 57 of vm0 to vm1: ff at 66, 1234 at 50"),
    ],
)
def test_an_edit_is_described_in_one_line(edit: PacketEdit, says: str) -> None:
    assert describe(PacketInput(PACKET, edit)) == says
    assert describe(PacketInput(PacketId(0, 57, 1, 2), Drop())) == "dropped frame 57 of vm0 to vm1 (copy 2)"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("packet drop 0#57", None),
        ("packet drop vm0#57>vm1", "packet drop 0#57>1"),
        ("packet drop 0#57>1.2", None),
        ("packet delay 0#57>1 1500us", None),
        ("packet delay 0#57 to 1.5s", "packet delay 0#57 to 1500ms"),
        ("packet copy 0#57>1", None),
        ("packet copy 0#57>1 2t", "packet copy 0#57>1 200us"),
        ("packet write 0#57 66 ff00", None),
        ("packet write 0#57 0x42 FF data 01 data+3 02 fix", "packet write 0#57 66 ff data 01 data+3 02 fix"),
        ("packets", None),
        ("packets 2", "packets vm2"),
        ("packets 0#57", None),
    ],
)
def test_lines_are_read_and_written(line: str, text: str | None) -> None:
    command = parse(line)
    assert command is not None
    assert command.text == (text or line)
    assert parse(command.text) == command


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("packet", "something is missing"),
        ("packet lose 0#57", "'lose' is nothing that can be done; there are drop, delay, copy, write"),
        ("packet drop 57", "not a packet: '57'; write 0#57>1 for frame 57 of vm0 to vm1"),
        ("packet drop 0#57>", "not a packet"),
        ("packet drop 0#57>1 now", "these are not its words; usage: packet drop PACKET"),
        ("packet delay 0#57", "usage: packet delay PACKET TIME"),
        ("packet delay 0#57 to", "usage: packet delay PACKET TIME"),
        ("packet delay 0#57 soon", "'soon' is not a time"),
        ("packet write 0#57 66", "usage: packet write PACKET OFFSET HEX"),
        ("packet write 0#57 66 ff 67", "usage: packet write PACKET OFFSET HEX"),
        ("packet write 0#57 66 f", "not bytes: 'f'"),
        ("packet write 0#57 head ff", "not a number: 'head'"),
        ("packets all", "neither a machine nor a packet: 'all'"),
        ("packets 0 1", "'1' is too much"),
    ],
)
def test_mistakes_are_one_line(line: str, says: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_has_every_form() -> None:
    lines = "\n".join(help_lines("packet"))
    assert all(form in lines for form, _ in FORMS)
    assert [form.split()[0] for form, _ in FORMS] == ["drop", "delay", "delay", "copy", "write"]
    assert EDITS == ("drop", "delay", "copy", "write")
