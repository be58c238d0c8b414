"""The form that injects a fault: its keys, its errors, what it remembers, and the line it submits."""

import pytest
import story
from interface import interface

from cc_tui.tui.inject import InjectForm, about, search
from chaoscontrol.faults import FAULTS


class Asked:
    """The lines that the screen was asked to carry out."""

    def __init__(self, shown) -> None:
        self.lines: list[str] = []
        shown.main.run_line = self.lines.append


@pytest.fixture(autouse=True)
def _story(monkeypatch):
    monkeypatch.setattr("cc_tui.looker.Looker.look", story.look)


async def choose(shown, kind: str) -> None:
    await shown.press("f")
    await shown.write(kind)
    await shown.press("enter")


async def test_a_kind_is_searched_for_and_its_fields_filled_in():
    async with interface(3) as shown:
        asked = Asked(shown)
        await shown.press("f")
        assert "Inject a fault  at main@0.000000000" in shown.text
        await shown.write("kill")
        assert "K process_kill" in shown.text
        assert "packet_loss" not in shown.text
        await shown.press("enter")
        assert ": inject process_kill target=0" in shown.text
        await shown.press("right")
        await shown.press("down", "right")
        assert ": inject process_kill target=1 disk=torn" in shown.text
        await shown.press("down")
        await shown.write("250us")
        await shown.press("enter")
        assert asked.lines == ["inject process_kill target=1 disk=torn for=250us"]
        assert not isinstance(shown.app.screen, InjectForm)


async def test_escape_leaves_without_injecting():
    async with interface(3) as shown:
        asked = Asked(shown)
        await shown.press("f", "escape")
        assert not isinstance(shown.app.screen, InjectForm)
        await choose(shown, "loss")
        await shown.press("escape")
        assert not isinstance(shown.app.screen, InjectForm)
        assert asked.lines == []


async def test_mistakes_are_one_line_and_nothing_is_injected():
    async with interface(3) as shown:
        asked = Asked(shown)
        await choose(shown, "network_partition")
        await shown.press("down", "backspace", "backspace", "backspace")
        await shown.write("0")
        row = next(row for row in shown.rows if "✗" in row)
        assert "network_partition: machine 0 is on both sides; side_a and side_b must" in row
        await shown.press("enter")
        assert isinstance(shown.app.screen, InjectForm)
        assert asked.lines == []
        await shown.press("backspace")
        await shown.write("2")
        await shown.press("enter")
        assert asked.lines == ["inject network_partition side_a=0 side_b=2"]


async def test_the_last_values_are_remembered():
    async with interface(3) as shown:
        asked = Asked(shown)
        await choose(shown, "packet_loss")
        await shown.press("right", "down", *["backspace"] * 5)
        await shown.write("20%")
        await shown.press("enter")
        await shown.press("f")
        await shown.press("enter")
        assert ": inject packet_loss target=1 rate_ppm=200000" in shown.text, "the last kind is the first choice"
        await shown.press("enter")
        assert asked.lines == ["inject packet_loss target=1 rate_ppm=200000"] * 2


async def test_one_without_fields_takes_enter_alone():
    async with interface(3) as shown:
        asked = Asked(shown)
        await choose(shown, "H")
        assert ": inject heal_all" in shown.text
        await shown.press("enter")
        assert asked.lines == ["inject heal_all"]


async def test_one_that_happens_in_a_moment_has_no_duration():
    async with interface(3) as shown:
        await choose(shown, "N")
        names = [row.split()[1] for row in shown.rows if row.strip().startswith("│ ")]
        assert "target" in names
        assert "for" not in names


async def test_above_the_fields_are_the_kinds_again():
    async with interface(3) as shown:
        asked = Asked(shown)
        await choose(shown, "nmi")
        await shown.press("up")
        assert "inject_nmi" in shown.text
        assert "search" not in shown.text, "what was searched for is still there"
        await shown.press(*["backspace"] * 3)
        await shown.write("pause")
        await shown.press("enter", "enter")
        assert asked.lines == ["inject process_pause target=0"]


async def test_nothing_found_is_nothing_chosen():
    async with interface(3) as shown:
        await choose(shown, "no such fault")
        assert isinstance(shown.app.screen, InjectForm)
        await shown.press("up", "down", "pageup", "pagedown")
        await shown.press(*["backspace"] * 13)
        assert "network_partition" in shown.text


async def test_the_machine_in_focus_is_the_first_choice():
    async with interface(3) as shown:
        await shown.run("vm 2")
        await choose(shown, "process_pause")
        assert ": inject process_pause target=2" in shown.text


async def test_in_the_past_the_form_says_that_it_branches():
    async with interface(3) as shown:
        await shown.run("goto 400us")
        await shown.press("T", "f")
        assert "at main@0.000390000; in the past, so on a new branch" in shown.text


async def test_the_line_goes_through_the_command_language():
    async with interface(3) as shown:
        seen = []
        shown.main.submit = seen.append
        await choose(shown, "process_pause")
        await shown.press("enter")
        assert seen or "no command 'inject'" in shown.message


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (40, 10)])
async def test_the_form_fits(size):
    async with interface(3, size) as shown:
        await shown.press("f")
        for kind in ("packet_reorder", "disk_latency_spike"):
            assert all(len(row) <= size[0] for row in shown.rows)
            await shown.write(kind)
            await shown.press("enter")
            assert len(shown.rows) == size[1]
            if size[1] >= 24:
                for text in (f": inject {kind}", "enter injects", "for ", "rate_ppm"):
                    assert text in shown.text
            await shown.press("up")
            await shown.press(*["backspace"] * len(kind))


async def test_the_palette_offers_the_form():
    async with interface(3) as shown:
        entry = next(entry for entry in shown.main.palette() if entry.title == "inject a fault")
        assert entry.help.endswith("key: f")
        entry.callback()
        await shown.settle()
        assert isinstance(shown.app.screen, InjectForm)


def test_every_kind_has_a_line_about_it():
    for kind in FAULTS.values():
        assert len(about(kind)) > 10
        assert "\n" not in about(kind)
    assert about(FAULTS["clock_jump"]).endswith("(guest agent)")


def test_search_ranks_letters_then_names_then_what_they_do():
    assert search("K")[0] == "process_kill"
    assert search("k")[0] == "clock_skew"
    assert search("packet loss") == ["packet_loss"]
    assert search("disk")[0] == "disk_read_error"
    assert search("power")[0] == "process_kill"
    assert search("") == list(FAULTS)
    assert search("nonsense") == []
