"""The property oracle and the event stream, on made-up events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol import oracle as oracle_module
from chaoscontrol.errors import UsageError
from chaoscontrol.events import LINE_BYTES_MAX, ConsoleLines, Event, EventKind
from chaoscontrol.oracle import (
    At,
    Check,
    ConsoleNever,
    ConsoleSometimes,
    NoGuestEnds,
    OracleReport,
    Progress,
    PropertyKind,
    PropertyOracle,
    PropertyResult,
    Verdict,
    kernel_properties,
)
from chaoscontrol.protocol import Command, ProtocolError, SdkEvent, Status, fnv1a, parse_details
from chaoscontrol.values import PropertyCounts

SECOND = 1_000_000_000


def line(vns, text, vm=0):
    return Event(vns, vm, vns, EventKind.CONSOLE, text)


def sdk(vns, command, message, details="", vm=0, status=Status.OK):
    return Event(vns, vm, vns, EventKind.SDK, SdkEvent(command, False, status, fnv1a(message), 1, message, details))


def counts(command, message, passes=0, fails=0, first_pass=None, first_fail=None):
    return PropertyCounts(fnv1a(message), command, message, passes, fails, first_pass, first_fail)


def verdicts(report):
    return {(r.name, str(r.kind)): str(r.verdict) for r in report.results}


def test_guest_properties_of_all_machines_are_one():
    oracle = PropertyOracle()
    oracle.feed([sdk(70, Command.ALWAYS, "a", '{"term": 3}', vm=1, status=Status.ALWAYS_FAILED)], 100)
    report = oracle.report(
        [
            [counts(1, "a", passes=3, fails=1, first_pass=(10, 10), first_fail=(90, 90)), counts(3, "r")],
            [counts(1, "a", passes=2, fails=2, first_pass=(5, 5), first_fail=(70, 70))],
        ]
    )
    (failure,) = report.failures
    assert (failure.passes, failure.fails, failure.hits) == (5, 3, 8)
    assert failure.example == At(5, 1, 5) and failure.counterexample == At(70, 1, 70)
    assert failure.details == '{"term": 3}'
    assert [r.name for r in report.unreached] == ["r"]


def test_the_catalog_says_what_was_never_reached():
    oracle = PropertyOracle()
    kinds = ["always", "always_or_unreachable", "sometimes", "reachable", "unreachable"]
    oracle.feed([sdk(i, Command.CATALOG, kind, f'{{"kind": "{kind}"}}') for i, kind in enumerate(kinds)], 10)
    report = oracle.report([[counts(5, kind) for kind in kinds]])
    assert verdicts(report) == {
        ("always", "always"): "unreached",
        ("always_or_unreachable", "always_or_unreachable"): "passed",
        ("sometimes", "sometimes"): "unreached",
        ("reachable", "reachable"): "unreached",
        ("unreachable", "unreachable"): "passed",
    }


def test_a_sometimes_that_was_never_true_is_unreached_not_failed():
    report = PropertyOracle().report([[counts(2, "s", fails=9, first_fail=(1, 1))]])
    assert not report.failures and report.results[0].verdict is Verdict.UNREACHED


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Kernel panic - not syncing: Attempted to kill init!", "no kernel panic"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "no kernel oops"),
        ("Oops: 0002 [#1] PREEMPT", "no kernel oops"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "no soft lockup"),
        ("INFO: task cat:55 blocked for more than 120 seconds.", "no soft lockup"),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", "no soft lockup"),
    ],
)
def test_kernel_trouble(text, broken):
    oracle = PropertyOracle(kernel_properties())
    oracle.feed([line(5, "all is well"), line(7, text, vm=2)], 10)
    (failure,) = oracle.report([]).failures
    assert failure.name == broken and failure.counterexample == At(7, 2, 7) and failure.details == text


def test_a_pattern_that_is_none_is_refused():
    for make in (ConsoleNever, ConsoleSometimes):
        with pytest.raises(UsageError, match="no regular expression"):
            make("(")


def test_what_is_kept_of_a_talkative_guest_is_bounded(monkeypatch):
    monkeypatch.setattr(oracle_module, "DETAILS_MAX", 50)
    monkeypatch.setattr(oracle_module, "ANNOUNCED_MAX", 50)
    oracle = PropertyOracle()
    for i in range(60):
        failure = SdkEvent(Command.ALWAYS, False, Status.ALWAYS_FAILED, i, 1, "", "{}")
        announced = SdkEvent(Command.CATALOG, False, Status.OK, i, 0, "m", '{"kind": "always"}')
        oracle.feed([Event(i, 0, i, EventKind.SDK, failure), Event(i, 0, i, EventKind.SDK, announced)], i)
    kept = oracle._guest
    assert len(kept._details) == len(kept._announced) == 50


@given(st.binary(max_size=80) | st.binary(min_size=24, max_size=24).map(lambda head: head + b'm{"a": 1}'))
def test_any_record_is_an_event_or_a_protocol_error(record):
    try:
        event = SdkEvent.decode(record)
    except ProtocolError:
        return
    event.message.encode()
    json.dumps(event.details, ensure_ascii=False, allow_nan=False).encode()


@given(
    st.text()
    | st.sampled_from(
        [
            '{"a": NaN}',
            '{"a": -Infinity}',
            '{"a": 1e999}',
            '{"\\ud800": "\\udc00x"}',
            "[" * 9999,
            '{"a": ' + "9" * 9999 + "}",
        ]
    )
    | st.recursive(st.none() | st.floats() | st.text(), lambda v: st.dictionaries(st.text(), v)).map(json.dumps)
)
def test_any_details_can_be_printed_and_written(text):
    json.dumps(parse_details(text), ensure_ascii=False, allow_nan=False).encode()


def test_details_of_surrogates_and_numbers_that_are_none():
    assert parse_details('{"a": "\\ud83d\\ude00 \\ud800", "b": NaN}') == {"a": "\U0001f600 ?", "b": "NaN"}


def test_console_properties_of_some_machines():
    oracle = PropertyOracle([ConsoleNever("bad", vms=[1]), ConsoleSometimes("^ready", vms=[0, 1])])
    oracle.feed([line(1, "bad", vm=0), line(2, "not ready")], 3)
    assert not oracle.report([]).failures and len(oracle.report([]).unreached) == 1
    oracle.feed([line(4, "very bad", vm=1), line(5, "ready", vm=1)], 6)
    report = oracle.report([])
    assert [f.counterexample for f in report.failures] == [At(4, 1, 4)] and not report.unreached


def test_guest_end_and_silence():
    oracle = PropertyOracle([NoGuestEnds(), Progress(2 * SECOND)])
    oracle.feed([line(SECOND, "one"), Event(2 * SECOND, 1, 9, EventKind.END, "the guest powered off")], 3 * SECOND)
    assert [f.name for f in oracle.report([]).failures] == ["no guest ends by itself"]
    oracle.feed([], 4 * SECOND)
    silence = oracle.report([]).failures[-1]
    assert silence.counterexample == At(3 * SECOND, -1, 0) and silence.fails == 1
    oracle.feed([], 9 * SECOND)
    assert oracle.report([]).failures[-1].fails == 1, "one silence is one failure"


def test_a_callable_and_its_memory():
    def leaders(event, memory):
        if event.kind is not EventKind.CONSOLE:
            return None
        term = str(event.data)
        known = memory.setdefault(term, event.vm)
        return True if known == event.vm else f"two leaders in term {term}"

    oracle = PropertyOracle([Check("one leader", leaders)])
    oracle.feed([line(1, "1", vm=0), line(2, "1", vm=0)], 3)
    branch = oracle.copy()
    branch.feed([line(4, "1", vm=1)], 5)
    oracle.feed([line(4, "2", vm=1)], 5)
    assert not oracle.report([]).failures, "a copy does not share what it remembers"
    (failure,) = branch.report([]).failures
    assert failure.details == "two leaders in term 1"


def test_reports_merge_across_runs():
    first = PropertyResult("p", PropertyKind.SOMETIMES, fails=2, counterexample=At(1, 0, 1))
    second = PropertyResult("p", PropertyKind.SOMETIMES, passes=1, example=At(9, 1, 9))
    merged = OracleReport([first]).merge(OracleReport([second]))
    (result,) = merged.results
    assert (result.passes, result.fails, result.runs, result.verdict) == (1, 2, 2, Verdict.PASSED)
    assert merged.as_dicts()[0]["example"] == {"vns": 9, "vm": 1, "instret": 9}


@given(
    st.lists(st.text("ab\r\n", max_size=9)),
    st.lists(st.integers(1, 5), max_size=30),
)
def test_lines_do_not_depend_on_how_the_output_is_cut(texts, cuts):
    data = "\n".join(texts).encode()
    marks = [(0, 0, 0)] + [(i + 1, i + 1, i + 1) for i, byte in enumerate(data) if byte == 10]
    whole = ConsoleLines(0).feed(0, data, marks)
    pieces, at, lines = [], 0, ConsoleLines(0)
    for cut in [*cuts, len(data)]:
        piece = data[at : at + cut]
        pieces += lines.feed(at, piece, [m for m in marks if at <= m[0] < at + len(piece)])
        at += len(piece)
    assert pieces == whole
    assert [e.data for e in whole] == [t.decode().rstrip("\r") for t in data.split(b"\n")[:-1]]


def test_an_endless_line_comes_in_pieces():
    events = ConsoleLines(3).feed(0, b"x" * (2 * LINE_BYTES_MAX + 5) + b"\n", [(0, 7, 8)])
    assert [len(e.data) for e in events] == [LINE_BYTES_MAX, LINE_BYTES_MAX, 5]
    assert {(e.vns, e.instret, e.vm) for e in events} == {(7, 8, 3)}
