"""Every key does what the help says, on toy machines."""

import pytest
from interface import interface

from cc_tui.settings import Settings
from cc_tui.symbols import SymbolTable
from cc_tui.tui.keymap import EATEN, KEYS, check_remapping
from cc_tui.tui.palette import Entry, search
from cc_tui.tui.panes.console import SerialConsole, key_bytes
from cc_tui.tui.panes.side import SIDE_NAMES
from cc_tui.tui.theme import THEMES
from chaoscontrol.errors import UsageError
from chaoscontrol.symbols.table import Symbol
from chaoscontrol.timetravel import Position

START_NS = 400_000


async def at_start(shown):
    await shown.run("goto 400us")
    assert shown.vns == START_NS


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "moved_ns"),
    [("t", 10_000), ("T", -10_000), ("s", 1_000_000), ("f10", 1_000_000), ("S", -START_NS)],
)
async def test_ticks_and_steps(key, moved_ns):
    async with interface() as shown:
        await at_start(shown)
        await shown.press(key)
        assert shown.vns == START_NS + moved_ns


async def test_it_begins_at_a_place_if_asked():
    async with interface(first="goto 70us") as shown:
        assert shown.vns == 70_000
    async with interface(first="goto nowhere") as shown:
        assert "no such place" in shown.message


async def test_instructions_forward_and_back():
    async with interface() as shown:
        await at_start(shown)
        before = shown.view.instrets[0]
        await shown.press("i", "i")
        assert shown.view.instrets[0] == before + 2
        await shown.press("I")
        assert shown.view.instrets[0] == before + 1


async def test_instructions_are_those_of_the_console_in_view():
    async with interface() as shown:
        await at_start(shown)
        await shown.press("2")
        before = shown.view.instrets[1]
        await shown.press("i")
        assert shown.view.focus == 1
        assert shown.view.instrets[1] == before + 1


async def test_events_forward_and_back():
    async with interface(1) as shown:
        await shown.press("n")
        first = shown.vns
        assert shown.view.consoles[0].read(0, 99) == b"toy machine 0, seed 1000\r\n"
        await shown.press("n")
        assert shown.vns > first
        await shown.press("N")
        assert shown.vns == first


@pytest.mark.parametrize("forward", ["c", "f5"])
async def test_landmarks_forward_and_back(forward):
    async with interface() as shown:
        await shown.run("goto 200us")
        await shown.press("m")
        await shown.run("goto 400us")
        await shown.press("C")
        assert shown.vns == 200_000
        await shown.press("C")
        assert shown.vns == 0
        await shown.press(forward, forward)
        assert shown.vns == START_NS


async def test_continue_at_the_end_runs_flat_out_until_it_is_stopped():
    async with interface() as shown:
        await shown.press("c")
        await shown.until(lambda: shown.vns > 3_000_000)
        assert shown.view.flat_out
        assert "RUN max" in shown.text
        await shown.press("escape")
        assert not shown.view.running


async def test_goto_asks_where():
    async with interface() as shown:
        await shown.press("g")
        assert "goto:" in shown.rows[-1]
        await shown.write("250us")
        await shown.press("enter")
        assert shown.vns == 250_000


async def test_space_runs_and_pauses():
    async with interface() as shown:
        await shown.press("space")
        await shown.until(lambda: shown.vns > 0)
        assert shown.view.running
        assert "RUN 0.01x" in shown.rows[-2]
        await shown.press("space")
        assert not shown.view.running
        assert "PAUSED" in shown.rows[-2]


async def test_speed():
    async with interface(settings=Settings()) as shown:
        await shown.press("greater_than_sign", "greater_than_sign")
        assert shown.view.speed == 100
        assert shown.message == "speed 100x"
        await shown.press("greater_than_sign", "greater_than_sign")
        assert shown.view.speed is None
        await shown.press("less_than_sign")
        assert shown.view.speed == 100


# ---- histories ------------------------------------------------------------------------------------------------------


async def test_branch_mark_and_copy():
    async with interface() as shown:
        await at_start(shown)
        await shown.press("T", "b")
        assert shown.view.branch.name == "b1"
        assert "branch b1 from main at 0.000390000 s" in shown.message
        await shown.press("m")
        assert shown.view.marks["m1"].branch == "b1"
        assert shown.message.startswith("mark m1: b1@0.000390000:")
        await shown.press("y")
        assert shown.app.clipboard == str(shown.view.moment)
        assert "OSC 52" in shown.message


async def test_copy_to_a_file(tmp_path):
    async with interface() as shown:
        await at_start(shown)
        shown.main.run_line(f'copy "{tmp_path / "moment"}"')
        assert (tmp_path / "moment").read_text() == f"{shown.view.moment}\n"
        shown.main.run_line("copy /dev/null/x")
        assert "/dev/null/x: " in shown.message


# ---- panes ----------------------------------------------------------------------------------------------------------


async def test_numbers_show_the_tabs():
    async with interface() as shown:
        for key, name in zip("234567890", ("console-1", "console-all", *SIDE_NAMES), strict=True):
            await shown.press(key)
            assert shown.app.focused.id == name
    async with interface(1) as shown:
        await shown.press("2", "9")
        assert shown.app.focused.id == SIDE_NAMES[0], "there is no ninth tab"


async def test_tab_goes_round_the_panes():
    async with interface() as shown:
        await shown.press("1")
        seen = [shown.app.focused.id]
        for _ in range(3 + len(SIDE_NAMES)):
            await shown.press("tab")
            seen.append(shown.app.focused.id)
        assert seen == ["console-0", "console-1", "console-all", *SIDE_NAMES, "console-0"]
        await shown.press("shift+tab")
        assert shown.app.focused.id == SIDE_NAMES[-1]


async def test_tab_goes_round_what_is_in_view_on_a_wide_screen():
    async with interface(size=(160, 50)) as shown:
        seen = [shown.app.focused.id]
        for _ in range(2 + len(SIDE_NAMES)):
            await shown.press("tab")
            seen.append(shown.app.focused.id)
        assert seen == ["console-0", "console-1", *SIDE_NAMES, "console-0"]


async def test_maximise_and_back():
    async with interface(size=(160, 50)) as shown:
        side = shown.main.query_one("#side")
        assert side.display
        await shown.press("z")
        assert not side.display
        assert [console.display for console in shown.main.query(SerialConsole)] == [True, False]
        await shown.press("z")
        assert side.display


async def test_search_goes_up_and_on():
    async with interface(1) as shown:
        await shown.run("goto 1ms")
        for line in ("beat 48", "beat 45"):
            await shown.press("slash")
            await shown.write("BEAT" if line == "never" else "beat")
            await shown.press("enter")
            console = shown.app.focused
            assert line in shown.view.consoles[0].line_bytes(console.selected, 10**9).decode()
        await shown.press("slash", "enter")
        assert "beat 42" in shown.view.consoles[0].line_bytes(console.selected, 10**9).decode()
        await shown.press("slash")
        await shown.write("Beat")
        await shown.press("enter")
        assert shown.message == "no 'Beat' above"
        await shown.press("escape")
        assert console.following


async def test_lines_are_selected_and_visited():
    async with interface(1) as shown:
        await shown.run("goto 1ms")
        await shown.press("up", "up", "k", "j")
        console = shown.app.focused
        line = console.selected
        assert f"line {line + 1} of" in shown.rows[-1]
        await shown.press("enter")
        assert shown.view.console_totals[0] == shown.view.consoles[0].line_start(line + 1)
        assert not shown.view.at_end
        await shown.press("home")
        assert console.selected == 0
        await shown.press("pagedown", "pageup", "end")
        assert console.following


async def test_lines_of_all_consoles_are_visited():
    async with interface() as shown:
        await shown.run("goto 1ms")
        await shown.press("3", "up", "up")
        await shown.press("enter")
        assert not shown.view.at_end
        assert shown.vns > 900_000


async def test_branches_are_visited():
    async with interface() as shown:
        await at_start(shown)
        await shown.press("T", "b", "7", "home", "enter")
        assert shown.view.branch.name == "main"
        assert shown.view.at_end
        await shown.press("down", "enter")
        assert shown.view.branch.name == "b1"


async def test_events_are_visited():
    async with interface() as shown:
        await at_start(shown)
        await shown.run(r'type 1 "hi\r"')
        await shown.press("s", "6", "home", "enter")
        assert shown.view.position == Position(START_NS)
        assert "vm1 typed" in shown.text


async def test_the_machine_pane_chooses_its_machine():
    async with interface() as shown:
        await shown.press("0", "right")
        assert shown.view.focus == 1
        assert "vm1" in shown.rows[1]
        await shown.press("left")
        assert shown.view.focus == 0


async def test_the_mouse():
    async with interface() as shown:
        await shown.pilot.click("#tabs", offset=(35, 0))
        await shown.settle()
        assert shown.app.focused.id == "properties"


# ---- typing at a console --------------------------------------------------------------------------------------------


async def attached(shown) -> SerialConsole:
    await shown.press("1", "enter")
    console = shown.main.query_one("#console-0", SerialConsole)
    assert console.attached
    assert "KEYS → vm0" in shown.rows[-2]
    return console


async def test_keys_go_to_the_guest_until_they_are_given_back():
    async with interface() as shown:
        console = await attached(shown)
        assert not shown.view.running
        await shown.write("sTq: ?")
        await shown.press("enter", "up", "ctrl+c", "tab")
        typed = b"".join(given.input.data for given in shown.view.inputs)
        assert typed == b"sTq: ?\r\x1b[A\x03\t"
        assert shown.view.running
        await shown.press("ctrl+right_square_bracket")
        assert not console.attached
        assert not shown.view.running


@pytest.mark.parametrize("key", ["escape", "ctrl+right_square_bracket"])
async def test_the_keys_are_given_back_by(key):
    async with interface() as shown:
        console = await attached(shown)
        await shown.press(key)
        assert not console.attached
        assert "PAUSED" in shown.rows[-2]


async def test_a_and_the_command_attach_too():
    async with interface() as shown:
        await shown.press("1", "a")
        assert "KEYS → vm0" in shown.rows[-2]
        await shown.press("escape", "3")
        await shown.run("attach")
        assert "KEYS → vm0" in shown.rows[-2]


async def test_typing_in_the_past_makes_a_branch_and_says_so():
    async with interface() as shown:
        await at_start(shown)
        await shown.press("T")
        assert "PAST" in shown.rows[-2]
        await attached(shown)
        assert "typing makes a branch here" in shown.rows[-1]
        assert len(shown.view.branches) == 1
        await shown.write("x")
        assert shown.view.branch.name == "b1"
        assert "branch b1 from main at 0.000390000 s" in shown.message


async def test_a_run_that_was_under_way_goes_on_after_typing():
    async with interface() as shown:
        await shown.press("space")
        await attached(shown)
        await shown.write("x")
        await shown.press("escape")
        assert shown.view.running


async def test_leaving_the_pane_gives_the_keys_back():
    async with interface() as shown:
        console = await attached(shown)
        await shown.pilot.click("#tabs", offset=(35, 0))
        await shown.settle()
        assert not console.attached


@pytest.mark.parametrize(
    ("key", "character", "data"),
    [("a", "a", b"a"), ("A", "A", b"A"), ("upper_u_with_umlaut", "Ü", "Ü".encode()), ("enter", "\r", b"\r"),
     ("ctrl+d", "\x04", b"\x04"), ("ctrl+z", None, b"\x1a"), ("backspace", "\x7f", b"\x7f"), ("f1", None, b"\x1bOP"),
     ("ctrl+up", None, b""), ("space", " ", b" "), ("ctrl+backslash", "\x1c", b"\x1c")],
)  # fmt: skip
def test_what_keys_send(key, character, data):
    assert key_bytes(key, character) == data


# ---- program --------------------------------------------------------------------------------------------------------


async def test_the_command_line():
    async with interface() as shown:
        await shown.enter("tick 3")
        assert shown.vns == 30_000
        await shown.press("colon", "up")
        assert "tick 3" in shown.rows[-1]
        await shown.press("enter")
        assert shown.vns == 60_000
        await shown.press("colon")
        await shown.write("ti")
        assert "tick" in shown.rows[-1]
        await shown.press("tab")
        assert "tick [N]" in shown.rows[-1]
        await shown.press("escape")
        assert "space" in shown.rows[-1]
        assert shown.vns == 60_000


async def test_the_command_line_completes_arguments():
    async with interface() as shown:
        await shown.run("mark before")
        shown.main.use_symbols(SymbolTable([Symbol("schedule", 0, 16)]))
        for written, whole in (
            ("view ma", "view machine"),
            ("goto be", "goto before"),
            ("type v", "type vm0"),
            ("break sch", "break schedule"),
        ):
            await shown.press("colon")
            await shown.write(written)
            await shown.press("tab")
            assert f" : {whole} " in shown.rows[-1]
            await shown.press("escape")
        await shown.press("g")
        await shown.write("be")
        await shown.press("tab")
        assert " goto: before " in shown.rows[-1]


async def test_a_mistake_is_one_line_until_the_next_key():
    async with interface() as shown:
        await shown.enter("goto moon")
        assert "no such place: 'moon'" in shown.rows[-1]
        await shown.enter("frobnicate")
        assert "no command 'frobnicate'" in shown.rows[-1]
        await shown.press("t")
        assert "frobnicate" not in shown.rows[-1]


async def test_help_is_about_the_pane_in_view():
    async with interface() as shown:
        headings = ("Console", "All consoles", *(name.capitalize() for name in SIDE_NAMES))
        for key, heading in zip("134567890", headings, strict=True):
            await shown.press(key, "question_mark")
            assert heading in shown.rows[2]
            await shown.press("escape")
        await shown.run("help goto")
        assert "goto PLACE" in shown.text


async def test_the_palette_lists_every_command():
    async with interface() as shown:
        await shown.press("ctrl+p")
        await shown.write("reverse-tick")
        await shown.until(lambda: "back by ticks" in shown.text)
        await shown.press("escape")


async def test_the_palette_does_what_is_chosen():
    async with interface() as shown:
        await shown.press("ctrl+p", *"tick", "down", "up", "enter")
        assert shown.vns == 10_000
        await shown.press("ctrl+p", "escape", "t")
        await shown.press("ctrl+p")
        await shown.write("no such thing")
        assert "no command matches" in shown.text
        await shown.press("enter", "ctrl+p", "t")
        assert shown.vns == 30_000


def test_the_palette_finds_names_then_help_then_letters():
    entries = [Entry(title, about, lambda: None) for title, about in (
        ("goto PLACE", "to a place"), ("reverse-tick", "back by ticks"), ("tick", "forward by ticks"),
        ("view events", "show events"), ("next", "to the next event"),
    )]  # fmt: skip

    def found(text: str) -> list[str]:
        return [entry.title.split()[0] for entry in search(entries, text)]

    assert found("") == ["goto", "reverse-tick", "tick", "view", "next"]
    assert found("tick") == ["tick", "reverse-tick"]
    assert found("EVENT") == ["view", "next"]
    assert found("back ticks") == found("rvtk") == ["reverse-tick"]
    assert found("zzz") == []


async def test_leaving_asks_only_if_something_would_be_lost(tmp_path):
    async with interface() as shown:
        await shown.run("type 0 x")
        await shown.press("q")
        assert "an input, branch or note is not saved" in shown.text
        await shown.press("escape")
        assert shown.app.is_running
        await shown.press("q", "s")
        assert "save:" in shown.rows[-1]
        await shown.write(str(tmp_path / "x.cc"))
        await shown.press("enter")
        assert "type 0 x" in (tmp_path / "x.cc").read_text()
        await shown.press("q")
    assert shown.app.return_code == 0


async def test_q_leaves():
    async with interface() as shown:
        await shown.press("q")
    assert shown.app.return_code == 0
    assert shown.app.crash is None


async def test_a_script_is_carried_out(tmp_path):
    (tmp_path / "x.cc").write_text("goto 200us\nbranch other\nview machine\n")
    (tmp_path / "y.cc").write_text("tick\nnonsense\n")
    async with interface() as shown:
        await shown.run(f'source "{tmp_path / "x.cc"}"')
        await shown.until(lambda: shown.view.branch.name == "other")
        await shown.run(f'source "{tmp_path / "y.cc"}"')
        await shown.until(lambda: "y.cc:2: no command 'nonsense'" in shown.message)


# ---- the table of keys ----------------------------------------------------------------------------------------------


def test_no_key_is_bound_twice_and_none_is_eaten():
    keys = [key for entry in KEYS for key in entry.keys.split(",")]
    assert len(keys) == len(set(keys))
    assert not set(keys) & EATEN
    assert not [key for key in keys if key.startswith("ctrl+shift")]


def test_what_goes_back_is_the_capital_of_what_goes_forward():
    keys = {entry.id: entry.keys.split(",")[0] for entry in KEYS}
    for name, key in keys.items():
        if f"{name}-back" in keys:
            assert keys[f"{name}-back"] == key.upper()


async def test_keys_can_be_remapped():
    settings = Settings(keys={"time.tick": "x", "console.attach": "f6"})
    async with interface(settings=settings) as shown:
        await shown.press("x")
        assert shown.vns == 10_000
        await shown.press("t")
        assert shown.vns == 10_000
        assert "x T tick" in shown.rows[-1]
        await shown.press("1", "f6")
        assert "KEYS → vm0" in shown.rows[-2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"time.tock": "x"}, "no binding 'time.tock'"),
        ({"time.tick": "ctrl+a"}, "ctrl+a never arrives"),
        ({"time.tick": ""}, "is not a key"),
        ({"time.tick": 3}, "is not a key"),
    ],
)
def test_bad_remappings_are_named(keys, message):
    with pytest.raises(UsageError, match=r"config\.toml") as caught:
        check_remapping(keys, "config.toml")
    assert message in str(caught.value)


# ---- looks ----------------------------------------------------------------------------------------------------------


async def test_both_themes():
    async with interface(settings=Settings(theme="light")) as shown:
        assert not shown.app.current_theme.dark
        await shown.run("theme")
        assert shown.app.current_theme.dark
        await shown.run("theme pink")
        assert "no theme 'pink'" in shown.message
    assert set(THEMES) == {"dark", "light"}


async def test_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with interface() as shown:
        await shown.run("goto 1ms")
        colours = {
            segment.style.color.triplet
            for strip in shown.app.screen._compositor.render_strips()
            for segment in strip.apply_filter(shown.app._filters[-1], shown.app.screen.background_colors[1])
            if segment.style and segment.style.color and segment.style.color.triplet
        }
        assert colours
        assert all(colour.red == colour.green == colour.blue for colour in colours)


async def test_ctrl_c_stops_what_is_under_way_as_in_gdb():
    async with interface(1) as shown:
        await shown.press("space")
        assert shown.view.running
        await shown.press("ctrl+c")
        await shown.until(lambda: not shown.view.running)
        await shown.press("ctrl+c")
        assert shown.message == "nothing is under way; q leaves"
        await shown.press("enter", "ctrl+c")
        await shown.until(lambda: shown.view.inputs)
        assert shown.view.inputs[0].input.data == b"\x03", "at a console it is the guest's"
