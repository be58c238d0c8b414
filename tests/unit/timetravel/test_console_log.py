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
        if (at == 0 and (start == 0 or text == b"\n")) or (at > 0 and data[at - 1] == 0x0A):
            marks.append(Mark(start + at, vns + at))
        assert byte >= 0
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
    assert log.lines_before(99, 3) == 2


def test_merged_lines_are_in_the_order_of_time_then_machine():
    logs = [ConsoleLog(), ConsoleLog()]
    merged = MergedLines(logs)
    write(logs[0], b"a\n", 10)
    write(logs[1], b"A\n", 10)
    merged.update([2, 2])
    write(logs[1], b"B\n", 20)
    write(logs[0], b"b\nc\n", 30)
    merged.update([6, 4])
    order = [merged.entry(at) for at in range(merged.count_before(100))]
    assert order == [(10, 0, 0), (10, 1, 0), (20, 1, 1), (30, 0, 1), (32, 0, 2)]
    assert [merged.index(entry) for entry in order] == [0, 1, 2, 3, 4]
    merged.update([2, 2])
    assert merged.count_before(100) == 5
