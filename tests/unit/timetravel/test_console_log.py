"""Console logs: bytes and lines along a branch, and the lines of several consoles in one order."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol.timetravel import ConsoleLog, MergedLines


@dataclass
class Mark:
    offset: int
    vns: int
    instret: int = 0


def write(log: ConsoleLog, data: bytes, vns: int = 0) -> None:
    """Append bytes; each is sent a nanosecond after the one before."""
    start = log.total
    text = log.read(max(start - 1, 0), start)
    marks = []
    for at, byte in enumerate(data):
        before = data[at - 1] if at else (text or b"\n")[0]
        if before == 0x0A or (before == 0x0D and byte != 0x0A):
            marks.append(Mark(start + at, vns + at))
    log.append(data, marks)


texts = st.text("ab\n", max_size=30).map(str.encode)


@given(texts, texts, st.integers(0, 30), texts, st.integers(0, 60))
def test_a_branch_continues_its_parent(first, second, base, own, base2):
    parent = ConsoleLog()
    write(parent, first)
    write(parent, second, 1_000)
    base = min(base, parent.total)
    child = ConsoleLog(parent, base)
    write(child, own, 2_000)
    whole = parent.read(0, base) + own
    grandchild = ConsoleLog(child, min(base2, child.total))
    write(grandchild, b"end\n", 3_000)
    for log, data in ((child, whole), (grandchild, whole[: min(base2, len(whole))] + b"end\n")):
        assert log.total == len(data)
        assert log.read(0, 10_000) == data
        lines = data.splitlines(keepends=True)
        assert log.lines_begun(log.total) == len(lines)
        assert [log.line_bytes(line, log.total) for line in range(len(lines))] == lines
        assert [log.line_start(line) for line in range(len(lines))] == [
            sum(map(len, lines[:line])) for line in range(len(lines))
        ]
        for offset in range(len(data)):
            line = log.line_of(offset)
            assert log.line_start(line) <= offset < log.line_start(line + 1)
        for pattern in (b"a", b"b\n", b"ab", b"\na"):
            for start in range(0, len(data), 3):
                assert log.find(pattern, start, log.total) == data.find(pattern, start)
                assert log.rfind(pattern, start, log.total) == data.rfind(pattern, start)
                assert log.rfind(pattern, 0, start) == data.rfind(pattern, 0, start)


@given(texts, st.integers(0, 40), st.integers(0, 40))
def test_logs_know_what_they_share(data, left_base, right_base):
    parent = ConsoleLog()
    write(parent, data)
    left = ConsoleLog(parent, min(left_base, parent.total))
    right = ConsoleLog(parent, min(right_base, parent.total))
    write(left, b"left")
    assert left.shared_with(right) == min(left_base, right_base, parent.total)
    assert left.shared_with(parent) == min(left_base, parent.total)
    assert parent.shared_with(left) == min(left_base, parent.total)
    assert left.shared_with(left) == left.total
    assert left.shared_with(ConsoleLog()) == 0


def test_a_line_is_seen_as_far_as_it_had_been_sent():
    log = ConsoleLog()
    write(log, b"one\ntwo\nthree")
    assert log.line_bytes(1, 6) == b"tw"
    assert log.line_bytes(0, 6) == b"one\n"
    assert log.lines_begun(4) == 1
    assert log.lines_begun(5) == 2


def test_lines_by_time():
    log = ConsoleLog()
    write(log, b"a\n", 10)
    write(log, b"b\n", 20)
    write(log, b"c\n", 30)
    assert [log.lines_before(vns, log.total) for vns in (10, 11, 20, 21, 99)] == [0, 1, 1, 2, 3]
    assert log.lines_before(99, 3) == 1


def test_a_line_that_was_written_anew_is_dated_by_that():
    log = ConsoleLog()
    write(log, b"guest> ", 10)
    write(log, b"\r\x1b[Kbeat 1\r\n", 1_000)
    write(log, b"guest> ", 1_020)
    assert [log.line_vns(line) for line in (0, 1)] == [10, 1_020]
    assert [log.line_date(line, log.total) for line in (0, 1)] == [1_001, 1_020]
    assert log.line_date(0, 7) == 10
    child = ConsoleLog(log, log.total)
    write(child, b"\r\x1b[Kbeat 2\r\n", 2_000)
    assert [child.line_date(line, child.total) for line in (0, 1)] == [1_001, 2_001]
    assert child.line_date(1, log.total) == 1_020


def merged_view(logs, vns, totals=None):
    totals = [log.total for log in logs] if totals is None else totals
    merged = MergedLines(logs)
    merged.update(totals)
    view = merged.at(vns, totals)
    return [tuple(view[at]) for at in range(len(view))]


def test_merged_lines_are_in_the_order_of_their_dates_then_by_machine():
    logs = [ConsoleLog(), ConsoleLog()]
    write(logs[0], b"a\n", 10)
    write(logs[1], b"A\n", 10)
    write(logs[1], b"B\n", 20)
    write(logs[0], b"b\nc\n", 30)
    assert merged_view(logs, 100) == [(10, 0, 0), (10, 1, 0), (20, 1, 1), (30, 0, 1), (32, 0, 2)]


def test_lines_still_open_come_last():
    logs = [ConsoleLog(), ConsoleLog()]
    write(logs[0], b"guest> ", 10)
    write(logs[1], b"A\nB\n", 20)
    assert merged_view(logs, 100) == [(20, 1, 0), (22, 1, 1), (10, 0, 0)]
    write(logs[0], b"\r\x1b[Kbeat\r\nguest> ", 50)
    assert merged_view(logs, 100) == [(20, 1, 0), (22, 1, 1), (51, 0, 0), (60, 0, 1)]


def test_a_slow_line_takes_its_place_when_it_ends():
    logs = [ConsoleLog(), ConsoleLog()]
    merged = MergedLines(logs)
    write(logs[0], b"slo", 10)
    write(logs[1], b"quick\n", 20)
    before = [3, 6]
    merged.update(before)
    write(logs[0], b"w\n", 40)
    after = [5, 6]
    merged.update(after)
    then, now = merged.at(30, before), merged.at(50, after)
    assert [tuple(now[at]) for at in range(len(now))] == [(10, 0, 0), (20, 1, 0)]
    assert [tuple(then[at]) for at in range(len(then))] == [(20, 1, 0), (10, 0, 0)]
    assert then.ended == 1
    for view in (then, now):
        assert [view.index(view[at]) for at in range(len(view))] == list(range(len(view)))


pieces = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([b"a", b"bc\n", b"\n", b"\r\x1b[Kd", b"e\r\nf"])), max_size=12
)


@given(pieces, st.data())
def test_the_past_of_merged_lines_is_what_it_was(written, data):
    logs = [ConsoleLog() for _ in range(3)]
    moments = [(0, [0, 0, 0], merged_view(logs, 0))]
    for at, (machine, text) in enumerate(written):
        write(logs[machine], text, at * 100)
        totals = [log.total for log in logs]
        moments.append((at * 100 + 99, totals, merged_view(logs, at * 100 + 99)))
    merged = MergedLines(logs)
    for _, totals, _ in data.draw(st.permutations(moments)):
        merged.update(totals)
    for vns, totals, shown in moments:
        view = merged.at(vns, totals)
        assert [tuple(view[at]) for at in range(len(view))] == shown
        assert [view.index(view[at]) for at in range(len(view))] == list(range(len(view)))
