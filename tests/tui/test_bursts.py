"""Keys that arrive together are dealt with one after the other: what opens something to write in gets what follows."""

import asyncio
import time

import pytest
from interface import interface
from textual.events import Key
from textual.widgets import Input
from toys.cluster import ToyCluster

from cc_tui.session import PROGRESS_AFTER_S
from cc_tui.settings import Settings
from cc_tui.tui.dialogs import AnswerScreen, HelpScreen, LeaveScreen
from cc_tui.tui.inject import InjectForm
from cc_tui.tui.panes.console import SerialConsole
from cc_tui.tui.pastes import PasteParser

ENTER, TAB, BACKSPACE, CTRL_P = "\r", "\t", "\x7f", "\x10"
DOWN, RIGHT, HOME = "\x1b[B", "\x1b[C", "\x1b[H"
KEYS_BACK = "\x1d"
"""ctrl+], which ends typing at a console. A terminal takes an escape before a letter for alt."""


def paste(text: str) -> str:
    """As a terminal marks a paste (xterm's mode 2004)."""
    return f"\x1b[200~{text}\x1b[201~"


def typed(shown) -> bytes:
    return b"".join(given.input.data for given in shown.view.inputs if hasattr(given.input, "data"))


# ---- the command line -----------------------------------------------------------------------------------------------


async def test_a_command_line_is_not_taken_for_keys_of_the_panes():
    """Found by typing `:branch foo` through tmux: its `b` made a branch b1."""
    async with interface() as shown:
        await shown.burst(f":branch foo{ENTER}")
        assert [branch.name for branch in shown.view.branches] == ["main", "foo"]
        assert not shown.view.marks


async def test_tab_completes_what_has_just_been_written():
    async with interface() as shown:
        await shown.run("mark before")
        await shown.burst(f":goto 100us{ENTER}:got{TAB} be{TAB}{ENTER}")
        assert shown.vns == 0


async def test_several_lines_and_keys_between_them():
    async with interface() as shown:
        await shown.burst(f":goto 200us{ENTER}tt:tick 3{ENTER}T:mark there{ENTER}:goto 0s{ENTER}")
        assert shown.vns == 0
        assert shown.view.marks["there"].position.vns == 240_000


async def test_what_follows_a_line_is_for_the_panes_again():
    async with interface() as shown:
        await shown.burst(f":goto 100us{ENTER}:{BACKSPACE}t:tick 7{BACKSPACE}2{ENTER}t")
        assert shown.vns == 140_000
        assert shown.view.branch.name == "main"


async def test_a_paste_after_the_colon_belongs_to_the_line():
    async with interface() as shown:
        await shown.burst(f":{paste('branch foo')}")
        assert [branch.name for branch in shown.view.branches] == ["main"]
        assert shown.main.query_one("#prompt-input", Input).value == "branch foo"
        await shown.burst(f"d{ENTER}")
        assert shown.view.branch.name == "food"


async def test_a_paste_that_nothing_takes_does_nothing_and_says_so():
    async with interface() as shown:
        await shown.burst(f"{paste('branch foo')}t")
        assert [branch.name for branch in shown.view.branches] == ["main"]
        assert shown.vns == 10_000
        await shown.burst(paste("btq"))
        assert shown.vns == 10_000
        assert shown.message == "nothing here takes what was pasted; : opens the command line"


async def test_many_lines_in_one_go():
    async with interface() as shown:
        await shown.burst("".join(f":tick{ENTER}:mark b{number}{ENTER}" for number in range(20)))
        assert shown.vns == 200_000
        assert [mark.position.vns for mark in shown.view.marks.values()] == [10_000 * number for number in range(1, 21)]


# ---- the other things to write in -----------------------------------------------------------------------------------


async def test_goto_and_probe():
    async with interface() as shown:
        await shown.burst(f"g250us{ENTER}t")
        assert shown.vns == 260_000
        await shown.burst("xbtq")
        assert shown.main.query_one("#prompt-input", Input).value == "btq"
        assert shown.vns == 260_000


async def test_a_search_and_what_is_found():
    async with interface(1) as shown:
        await shown.run("goto 1ms")
        await shown.burst(f"/beat{ENTER}/{ENTER}")
        console = shown.app.focused
        assert "beat 45" in shown.view.consoles[0].line_bytes(console.selected, 10**9).decode()
        assert not shown.view.marks
        assert [branch.name for branch in shown.view.branches] == ["main"]


async def test_a_filter_of_a_list():
    async with interface() as shown:
        await shown.run("mark one")
        await shown.burst(f"6/btm{ENTER}t")
        assert shown.main.query_one("#events").pattern == "btm"
        assert shown.vns == 10_000


async def test_a_fault_is_injected_by_one_burst():
    lines = []
    async with interface() as shown:
        shown.main.run_line = lines.append
        await shown.burst(f"fkill{ENTER}{RIGHT}{DOWN}{DOWN}250us{ENTER}t")
        assert not isinstance(shown.app.screen, InjectForm)
        assert lines == ["inject process_kill target=1 for=250us", "tick"]


async def test_a_form_that_is_left_takes_nothing_more():
    async with interface() as shown:
        await shown.burst("fbtq")
        assert shown.app.screen.query_one("#inject-search", Input).value == "btq"
        await shown.press("escape")
        await shown.burst("tt")
        assert shown.vns == 20_000


async def test_names_notes_and_questions_of_branches():
    """Found by typing `r` and a name at once in their pane: the name's letters were keys of the panes."""
    async with interface() as shown:
        await shown.burst(f":branch one{ENTER}:branch two{ENTER}:view branches{ENTER}{HOME}{DOWN}rbtm{ENTER}")
        assert [branch.name for branch in shown.view.branches] == ["main", "btm", "two"]
        await shown.burst(f"as b t q{ENTER}t")
        assert shown.view.branches[1].note == "s b t q"
        assert shown.vns == 10_000
        await shown.burst("dqtdyt")
        assert [branch.name for branch in shown.view.branches] == ["main", "two"]
        assert shown.vns == 30_000


@pytest.mark.parametrize("page", ["\x1b[5~", "\x1b[6~"])
@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_pages_of_what_has_no_size_yet(page, size):
    """Found by random keys: a page down behind the key that showed the branches ended the program."""
    async with interface(1, size) as shown:
        await shown.burst("b")
        await shown.burst(f"5{page}t6{page}1{page}t")
        assert shown.vns == 20_000
        await shown.burst(f"f{page}disk{ENTER}\x1b[A{BACKSPACE}{page}")
        assert isinstance(shown.app.screen, InjectForm)
        await shown.press("escape")
        await shown.burst(f"{CTRL_P}{page}tick{ENTER}5{page}")
        assert shown.vns == 30_000


# ---- a console ------------------------------------------------------------------------------------------------------


async def test_keys_behind_the_one_that_attaches_are_for_the_guest():
    async with interface() as shown:
        pasted = paste("sm\n")
        await shown.burst(f"1abtq{ENTER}{pasted}{KEYS_BACK}m")
        assert typed(shown) == b"btq\rsm\r"
        assert list(shown.view.marks) == ["m1"]
        assert not shown.main.query_one("#console-0", SerialConsole).attached


async def test_attaching_by_the_command_to_a_console_out_of_sight():
    async with interface() as shown:
        await shown.burst(f"5:vm 1{ENTER}")
        await shown.burst(f":attach{ENTER}btq{KEYS_BACK}t")
        assert typed(shown) == b"btq"
        assert shown.view.inputs[0].input.machine == 1


async def test_a_key_for_the_pane_that_the_one_before_brought_into_view():
    async with interface() as shown:
        await shown.burst("2a!")
        assert typed(shown) == b"!"
        assert shown.view.inputs[0].input.machine == 1
    async with interface(size=(160, 50)) as shown:
        await shown.burst(f"{TAB}a!{KEYS_BACK}")
        assert shown.view.inputs[0].input.machine == 1
        await shown.burst(f"{TAB}z")
        assert shown.main.query_one("#side").display
        assert not shown.main.query_one("#consoles").display


async def test_a_choice_in_a_list_comes_before_what_follows_it():
    async with interface() as shown:
        await shown.run("goto 400us")
        await shown.burst(f"Tb7{HOME}{ENTER}t")
        assert shown.view.branch.name == "main"
        assert shown.vns == 410_000


# ---- what the engine has yet to do ----------------------------------------------------------------------------------


async def test_a_branch_is_not_lost_by_leaving_before_it_is_made():
    async with interface() as shown:
        await shown.burst("bq")
        assert isinstance(shown.app.screen, LeaveScreen)
        assert "an input, branch or note is not saved" in shown.text


async def test_a_moment_is_copied_as_it_is_after_the_keys_before():
    async with interface() as shown:
        await shown.burst("ttty")
        assert shown.vns == 30_000
        assert shown.app.clipboard == str(shown.view.moment)


async def test_speeds_and_runs_follow_each_other():
    async with interface(settings=Settings(speed=0.01)) as shown:
        await shown.burst("<< ")
        assert shown.view.speed == 0.001
        assert shown.view.running
        await shown.burst("    > ")
        assert shown.view.speed == 0.01
        assert not shown.view.running
        await shown.burst(f" :mark a{ENTER}:pause{ENTER}")
        assert list(shown.view.marks) == ["a"]
        assert not shown.view.running


async def test_the_machine_that_will_be_in_focus():
    async with interface(3) as shown:
        await shown.burst(f"{RIGHT}:view machine{ENTER}{RIGHT}{RIGHT}x")
        assert shown.view.focus == 2
        assert "probe vm2:" in shown.rows[-1]
        await shown.burst(f"{BACKSPACE}:vm 1{ENTER}fpause{ENTER}")
        assert ": inject process_pause target=1" in shown.text


async def test_typing_again_and_again():
    async with interface() as shown:
        await shown.burst(f"1aone{KEYS_BACK}atwo{KEYS_BACK}tathree{KEYS_BACK}")
        assert typed(shown) == b"onetwothree"
        assert not shown.view.running


async def test_escape_stops_what_is_under_way_in_the_midst_of_keys():
    async with interface() as shown:
        await shown.burst("c")
        await shown.until(lambda: shown.view.running)
        await shown.burst("\x1b[B\x1b[A")
        await shown.press("escape")
        await shown.press("escape")
        assert not shown.view.running


# ---- what covers the panes ------------------------------------------------------------------------------------------


async def test_questions_and_help():
    async with interface() as shown:
        await shown.burst("?t")
        assert isinstance(shown.app.screen, HelpScreen)
        await shown.burst("qt")
        assert shown.vns == 10_000
        await shown.press("b")
        await shown.burst("q")
        assert isinstance(shown.app.screen, LeaveScreen)
        await shown.burst("nqt")
        assert shown.vns == 10_000
        assert isinstance(shown.app.screen, LeaveScreen)
        await shown.burst("sbtq")
        assert shown.main.query_one("#prompt-input", Input).value == "btq"
        await shown.press("escape")
        await shown.burst("qqttt")
    assert shown.app.return_code == 0
    assert shown.app._exception is None


async def test_what_answers_a_line_takes_what_came_with_the_line():
    """Found by typing `:registers`, enter and q at once: the q left the program before the answer was there."""
    async with interface() as shown:
        await shown.burst(f":registers vm0{ENTER}qt:marks{ENTER}t:registers vm1{ENTER}")
        assert isinstance(shown.app.screen, AnswerScreen)
        assert shown.vns == 20_000
        await shown.burst(f"q{CTRL_P}registers{ENTER}qt")
        assert shown.vns == 30_000
        await shown.burst(f":branch foo{ENTER}:view branches{ENTER}{HOME}{ENTER}:tick{ENTER}")
        assert shown.view.branch.name == "main"


@pytest.mark.parametrize("later", [False, True])
async def test_keys_do_not_wait_for_a_line_that_is_seen_to_take_long(later, monkeypatch):
    cluster = ToyCluster(1)
    cluster.vms[0].slowness_s = 0.01
    if later:
        monkeypatch.setattr("cc_tui.session.PROGRESS_AFTER_S", 1000.0)
    async with interface(1, cluster=cluster) as shown:
        events = list(PasteParser().feed(f":goto 10s{ENTER}?"))
        for event in events:
            event.time = time.monotonic()
            shown.app._driver.process_message(event)
        if later:
            await asyncio.sleep(PROGRESS_AFTER_S)
            assert not isinstance(shown.app.screen, HelpScreen)
            shown.app._driver.process_message(Key("down", None))
        while not isinstance(shown.app.screen, HelpScreen):
            await asyncio.sleep(0.01)
        assert shown.session.busy
        for key in ("escape", "escape"):
            shown.app._driver.process_message(Key(key, "\x1b"))
        await shown.until(lambda: not shown.session.busy)
        assert shown.vns < 10**10


async def test_the_palette_takes_what_is_written_behind_its_key():
    async with interface() as shown:
        await shown.burst(f"{CTRL_P}reverse-t{ENTER}t{CTRL_P}goto{ENTER}100us{ENTER}{CTRL_P}nonsense{ENTER}{CTRL_P}t")
        assert shown.vns == 110_000
        await shown.burst(f"{CTRL_P}btm")
        assert shown.app.screen.query_one(Input).value == "btm"
        await shown.press("escape")
        assert [branch.name for branch in shown.view.branches] == ["main"]
        assert not shown.view.marks


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_while_time_runs(size):
    async with interface(size=size, settings=Settings(speed=0.01)) as shown:
        await shown.burst(f" :branch foo{ENTER} :mark bar{ENTER}")
        await shown.until(lambda: "bar" in shown.view.marks)
        assert [branch.name for branch in shown.view.branches] == ["main", "foo"]
        assert list(shown.view.marks) == ["bar"]
