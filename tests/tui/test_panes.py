"""The panes: consoles as they were at the cursor, huge logs, hostile guests and sizes."""

import asyncio
import dataclasses
import time

import pytest
from interface import interface
from toys.cluster import Mark, ToyCluster

from cc_tui.symbols import SymbolTable
from cc_tui.tui.lines import LineView
from cc_tui.tui.panes.console import MergedConsole, SerialConsole
from cc_tui.tui.panes.machine import disassemble
from cc_tui.tui.panes.side import SIDE_NAMES
from chaoscontrol.flags import flag_names
from chaoscontrol.symbols.table import Symbol
from chaoscontrol.timetravel import ConsoleLog, Position


def big_log(lines: int, text: bytes = b"[%8d] a line of a log that goes on and on, like they do\r\n") -> ConsoleLog:
    log = ConsoleLog()
    for first in range(0, lines, 10_000):
        data, marks, at = bytearray(), [], log.total
        for number in range(first, min(first + 10_000, lines)):
            marks.append(Mark(at + len(data), number * 1_000, number))
            data += text % number
        log.append(data, marks)
    return log


def with_log(view, log: ConsoleLog, total: int | None = None):
    """A picture with another console for machine 0."""
    total = log.total if total is None else total
    return dataclasses.replace(
        view, consoles=(log, *view.consoles[1:]), console_totals=(total, *view.console_totals[1:])
    )


def rows_of(view: LineView) -> list[str]:
    return [view.render_line(y).text.rstrip() for y in range(view.content_size.height)]


# ---- consoles -------------------------------------------------------------------------------------------------------


async def test_the_console_shows_what_was_sent_by_the_cursor():
    async with interface(1) as shown:
        for line in ("goto 1ms", "reverse-next", "reverse-insn 7", "goto start", "goto 500us", "branch", "goto end"):
            await shown.run(line)
            sent = shown.view.consoles[0].read(0, shown.view.console_totals[0]).decode().replace("\r", "")
            assert "\n".join(rows_of(shown.main.query_one("#console-0"))).strip() == sent[-1500:].strip()


async def test_a_console_of_another_branch_is_another_console():
    async with interface(1) as shown:
        await shown.run("goto 300us")
        await shown.run(r'type 0 "left\r"')
        await shown.run("goto 500us")
        assert "you said left" in shown.text
        await shown.run("reverse-continue")
        assert "left" not in shown.text
        await shown.run(r'type 0 "right\r"')
        await shown.run("goto 500us")
        assert "you said right" in shown.text
        await shown.run("goto main")
        assert "you said left" in shown.text
        assert "right" not in shown.text


async def test_a_million_lines_scroll_at_once():
    log = big_log(1_000_000)
    async with interface(1) as shown:
        console = shown.main.query_one("#console-0", SerialConsole)
        begun = time.perf_counter()
        console.show(with_log(shown.view, log))
        assert "999999" in rows_of(console)[-2]
        for move in (console.action_first, lambda: console.action_page(1), lambda: console.select(500_000),
                     lambda: console.action_page(-1), lambda: console.scroll_rows(-5_000), console.follow):  # fmt: skip
            move()
            assert any(rows_of(console))
        console.select(123_456)
        assert any("123456]" in row for row in rows_of(console))
        assert console.find("no such text") is False
        assert console.find("[      77]") is True
        assert console.selected == 77
        assert time.perf_counter() - begun < 5


async def test_a_million_lines_of_all_consoles():
    log = big_log(300_000)
    async with interface(2) as shown:
        merged = shown.main.query_one("#console-all", MergedConsole)
        view = shown.view
        view = dataclasses.replace(
            view, consoles=(log, log), console_totals=(log.total, log.total), position=Position(1 << 40)
        )
        merged.show(view)
        assert merged.line_count() == 600_000
        assert "vm1 │ [  299999]" in rows_of(merged)[-1]
        assert "vm0 │ [  299999]" in rows_of(merged)[-2]
        merged.select(600_000 // 2)
        assert any("150000]" in row for row in rows_of(merged))
        assert merged.find("[       7]")
        assert merged.selected == 15


async def test_long_lines_wrap_and_are_passed_row_by_row():
    log = big_log(50, b"%03d " + b"x" * 300 + b"END\r\n")
    async with interface(1) as shown:
        console = shown.main.query_one("#console-0", SerialConsole)
        console.show(with_log(shown.view, log))
        console.select(10)
        top = rows_of(console)
        assert [row[:4] for row in top[:5]] == ["010 ", "xxxx", "xxxx", "xxxx", "011 "]
        assert top[3].endswith("END")
        console.scroll_rows(2)
        assert rows_of(console)[2][:4] == "011 "
        console.scroll_rows(-3)
        assert rows_of(console)[:2] == [top[3], top[0]] or rows_of(console)[1][:4] == "010 "
        console.select(49)
        assert rows_of(console)[-1].endswith("END") or rows_of(console)[-2].endswith("END")


async def test_a_selected_line_goes_when_there_are_no_lines_any_more():
    """Found by random keys: to go back to the start from a line among those of all consoles ended the program."""
    async with interface(2) as shown:
        await shown.run("goto 300us")
        await shown.run("view all")
        await shown.press("up")
        assert shown.app.focused.selected is not None
        await shown.run("goto start")
        assert shown.app.focused.selected is None
        assert shown.app.focused.following


async def test_what_is_read_stays_put_while_more_comes():
    log = big_log(1_000)
    async with interface(1) as shown:
        console = shown.main.query_one("#console-0", SerialConsole)
        console.show(with_log(shown.view, log, log.line_start(500)))
        console.select(300)
        before = rows_of(console)
        console.show(with_log(shown.view, log))
        assert rows_of(console) == before
        console.show(with_log(shown.view, log, log.line_start(200)))
        assert console.selected == 200
        assert any("199]" in row for row in rows_of(console))


HOSTILE = (
    b"\x1b]0;owned\x07\x1b[?1049h\x1b[2J\x1b[31mred\x1b[0m\x9b5n\x1b[6n\x1bP+q\x1b\\\x07\x07\x0e lqk \x0f"
    b"\x1b]52;c;AAAA\x07\xff\xfe\x00\x1b[999;999H!\x1b[?6n\x1b[?3m\x1b[1;1H" + "\u202e\u200b\ue000\r\nok\r\n".encode()
)


async def test_nothing_of_a_hostile_guest_reaches_the_terminal():
    log = ConsoleLog()
    log.append(HOSTILE * 30, [Mark(0, 0, 0)])
    async with interface(2) as shown:
        view = with_log(shown.view, log)
        for name in ("1", "3"):
            await shown.press(name)
            pane = shown.app.focused
            pane.show(dataclasses.replace(view, position=Position(1 << 40)))
            for row in rows_of(pane):
                assert row.isprintable()
            pane.select(0)
            for row in rows_of(pane):
                assert row.isprintable()


async def test_typed_text_in_lists_is_shown_not_obeyed():
    async with interface(1) as shown:
        await shown.run(r'type 0 "\e]0;x\x07[bold]hi[/]\r"')
        await shown.run("view events")
        assert r'vm0 typed "\e]0;x\x07[bold]hi[/]\r"' in shown.text
        await shown.run("view branches")
        assert r'"\e]0;x\x07[bold]hi[/]' in shown.text


# ---- the machine ----------------------------------------------------------------------------------------------------


def test_disassembly():
    code = bytes.fromhex("4889e5 e8fbffffff 0f0b 06 c3")
    assert [(address, mnemonic) for address, _, mnemonic, _ in disassemble(code, 0x1000, 9)] == [
        (0x1000, "mov"), (0x1003, "call"), (0x1008, "ud2"),
    ]  # fmt: skip
    assert disassemble(b"", 0, 5) == []
    assert disassemble(b"\x06" * 40, 0, 2)[1][2] == "(bad)"


def test_flags():
    assert flag_names("rflags", 0x246) == "PF ZF IF"
    assert flag_names("rflags", 0x3000) == "IOPL=3"


async def test_the_machine_pane_names_addresses_and_shows_what_changed():
    async with interface(1) as shown:
        shown.main.use_symbols(SymbolTable([Symbol("toy_main", 0xFFFFFFFF81000000, 4096)]))
        await shown.run("goto 300us")
        await shown.run("view machine")
        await shown.press("i")
        assert "toy_main+0x" in shown.text
        assert f"{shown.view.machine.registers.rip:016x}" in shown.text
        assert f"{shown.view.instrets[0]:,} insns" in shown.text


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (160, 50), (40, 10), (200, 60), (20, 5)])
@pytest.mark.parametrize("count", [1, 2, 8])
async def test_every_pane_fits_every_size(size, count):
    async with interface(count, size) as shown:
        await shown.run("goto 300us")
        await shown.run("branch")
        for name in (*map(str, range(count)), *(("all",) if count > 1 else ()), *SIDE_NAMES):
            await shown.run(f"view {name}")
            assert len(shown.rows) == size[1]
            assert all(len(row) <= size[0] for row in shown.rows)
        if size[0] >= 40:
            assert "b1@0.000300000" in shown.rows[-2], "the moment is always visible"


async def test_the_screen_follows_its_size():
    async with interface(2, (160, 50)) as shown:
        await shown.run("goto 1ms")
        assert sum(console.display for console in shown.main.query(SerialConsole)) == 2
        await shown.pilot.resize_terminal(80, 24)
        await shown.settle()
        assert not shown.main.query_one("#side").display
        assert "vm0 │" in shown.text
        await shown.pilot.resize_terminal(160, 50)
        await shown.settle()
        assert shown.main.query_one("#side").display


async def test_a_crash_of_the_session_ends_the_program():
    cluster = ToyCluster(1)
    async with interface(cluster=cluster) as shown:
        cluster.vms[0].registers = None
        await shown.press("t")
        await shown.until(lambda: not shown.app.is_running)
    assert isinstance(shown.app.crash, TypeError)
    assert shown.app.return_code == 3


async def test_progress_is_shown_and_cancelled():
    cluster = ToyCluster(1)
    cluster.vms[0].slowness_s = 0.05
    async with interface(cluster=cluster) as shown:
        shown.main.run_line("goto 1s")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if "esc stops it" in shown.rows[-2]:
                break
        assert "goto 1s" in shown.rows[-2]
        assert "insn/s" in shown.rows[-2]
        await shown.press("escape")
        assert "cancelled" in shown.message
        assert shown.vns == 0
