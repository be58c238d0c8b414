"""Fields of faults as a person writes them, and the `inject` lines made of them."""

import pytest

from cc_tui.commands.language import split
from cc_tui.fault_fields import fields_of, inject_line, make_fault, read_duration, time_word
from chaoscontrol.faults import (
    FAULTS,
    ClockJump,
    ClockSkew,
    DiskTornWrite,
    FaultError,
    HealAll,
    MemoryPressure,
    NetworkBandwidth,
    NetworkLatency,
    NetworkPartition,
    PacketLoss,
    ProcessKill,
    SignalProcess,
)

MACHINES = 3


@pytest.mark.parametrize(
    ("kind", "texts", "line"),
    [
        (NetworkPartition, {"side_a": "0", "side_b": "2, 1"}, "inject network_partition side_a=0 side_b=1,2"),
        (ProcessKill, {"target": "1", "disk": "some"}, "inject process_kill target=1"),
        (ProcessKill, {"target": "1", "disk": "torn", "for": "1500us"},
         "inject process_kill target=1 disk=torn for=1.5ms"),
        (PacketLoss, {"target": "0", "rate_ppm": "5%", "peer": "", "for": "2s"},
         "inject packet_loss target=0 rate_ppm=50000 for=2s"),
        (PacketLoss, {"target": "0", "rate_ppm": "0.01%", "peer": "2", "direction": "out"},
         "inject packet_loss target=0 rate_ppm=100 peer=2 direction=out"),
        (NetworkLatency, {"target": "0", "latency_ns": "1.5ms"}, "inject network_latency target=0 latency_ns=1.5ms"),
        (NetworkBandwidth, {"target": "0", "bytes_per_sec": "100K"},
         "inject network_bandwidth target=0 bytes_per_sec=102400"),
        (MemoryPressure, {"target": "2", "take_bytes": "32M"}, "inject memory_pressure target=2 take_bytes=33554432"),
        (ClockJump, {"target": "2", "delta_ns": "-1.5s"}, "inject clock_jump target=2 delta_ns=-1.5s"),
        (ClockSkew, {"target": "2", "offset_ns": "0", "rate_ppm": "-200000"},
         "inject clock_skew target=2 rate_ppm=-200000"),
        (DiskTornWrite, {"target": "0", "rate_ppm": "1_000_000", "silent": "yes"},
         "inject disk_torn_write target=0 silent=yes"),
        (SignalProcess, {"target": "0", "process": "raft node", "signal": "9"},
         'inject signal_process target=0 "process=raft node"'),
        (HealAll, {}, "inject heal_all"),
    ],
)  # fmt: skip
def test_lines(kind, texts, line):
    fault = make_fault(kind, texts, MACHINES)
    assert inject_line(fault, read_duration(kind, texts.get("for", ""))) == line


@pytest.mark.parametrize(
    ("kind", "texts", "words"),
    [
        (PacketLoss, {"target": "3", "rate_ppm": "1"}, ("no machine 3", "0 to 2")),
        (PacketLoss, {"target": "", "rate_ppm": "1"}, ("target is missing", "a machine, 0 to 2")),
        (PacketLoss, {"target": "x", "rate_ppm": "1"}, ("target cannot be 'x'", "whole number")),
        (PacketLoss, {"target": "0", "rate_ppm": "200%"}, ("rate_ppm cannot be 2000000", "parts per million")),
        (PacketLoss, {"target": "0", "rate_ppm": "x%"}, ("rate_ppm cannot be 'x%'", "5%")),
        (PacketLoss, {"target": "0", "rate_ppm": "1", "direction": "up"},
         ("direction cannot be 'up'", "both, out or in")),
        (PacketLoss, {"target": "0", "rate_ppm": "1", "peer": "0"}, ("no link to itself", "another peer")),
        (NetworkPartition, {"side_a": "0,1", "side_b": "1"}, ("machine 1 is on both sides", "must not overlap")),
        (NetworkPartition, {"side_a": "0;1", "side_b": "2"}, ("side_a cannot be '0;1'", "whole number")),
        (NetworkPartition, {"side_a": "", "side_b": "2"}, ("side_a is missing", "machines of 0 to 2")),
        (NetworkLatency, {"target": "0", "latency_ns": "soon"}, ("latency_ns cannot be 'soon'", "1.5 ms")),
        (DiskTornWrite, {"target": "0", "silent": "maybe"}, ("silent cannot be 'maybe'", "yes or no")),
        (ClockSkew, {"target": "0"}, ("neither offset_ns nor rate_ppm", "give one")),
        (SignalProcess, {"target": "0", "process": ""}, ("process cannot be ''", "process's name")),
        (MemoryPressure, {"target": "0", "take_bytes": "9" * 30}, ("take_bytes cannot be", "whole number")),
    ],
)  # fmt: skip
def test_mistakes_name_the_field_and_what_it_takes(kind, texts, words):
    with pytest.raises(FaultError) as caught:
        make_fault(kind, texts, MACHINES)
    said = f"{caught.value.what}; {caught.value.hint}"
    assert all(word in said for word in words), said
    assert "\n" not in said


def test_durations():
    assert read_duration(PacketLoss, "") is None
    assert read_duration(PacketLoss, " 250us ") == 250_000
    assert read_duration(HealAll, "2s") is None, "it happens in a moment; its form asks for none"
    for text in ("-1s", "soon", "0.1ns"):
        with pytest.raises(FaultError, match="for cannot be"):
            read_duration(PacketLoss, text)
    with pytest.raises(FaultError, match="cannot last 0 ns"):
        inject_line(PacketLoss(0, 1), 0)


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_form_begins_with_is_a_fault_or_says_what_is_missing(name):
    kind = FAULTS[name]
    texts = {field.name: field.initial(MACHINES, 1) for field in fields_of(kind)}
    if name in ("clock_skew", "signal_process"):
        with pytest.raises(FaultError):
            make_fault(kind, texts, MACHINES)
        return
    fault = make_fault(kind, texts, MACHINES)
    assert split(inject_line(fault, None))[1].text == name
    assert all(field.allowed(MACHINES) for field in fields_of(kind)), "every field says what it takes"
    for field in fields_of(kind):
        assert field.read(field.write(getattr(fault, field.name))) == getattr(fault, field.name)


def test_choices_are_those_that_can_be_counted():
    by_name = {field.name: field.choices(MACHINES) for field in fields_of(PacketLoss)}
    assert by_name == {"target": ("0", "1", "2"), "rate_ppm": (), "peer": ("", "0", "1", "2"),
                       "direction": ("both", "out", "in")}  # fmt: skip
    assert {field.name: field.choices(1) for field in fields_of(DiskTornWrite)}["silent"] == ("no", "yes")


def test_times_are_one_word():
    assert [time_word(ns) for ns in (0, 7, 1_500, -1_500_000_000)] == ["0ns", "7ns", "1.5us", "-1.5s"]
