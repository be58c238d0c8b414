"""The pane of branches: deleting asks first, renaming and notes are written in the prompt, refusals are one line."""

import pytest
from interface import interface

from cc_tui.settings import Settings
from cc_tui.tui.dialogs import ConfirmScreen
from cc_tui.tui.panes.branches import BranchPane

STORY = (
    "goto 300us", "goto 100us", "branch old", "goto 250us", "mark lost", "branch deeper", "goto main", "goto 200us",
    "branch other", "goto main", "view branches",
)  # fmt: skip
"""main with old and other, deeper from old; the cursor on main."""


async def tell(shown, *more: str) -> None:
    for line in (*STORY, *more):
        await shown.run(line)


def names(shown) -> list[str]:
    return [branch.name for branch in shown.view.branches]


def looked_at(shown) -> str:
    pane = shown.main.query_one(BranchPane)
    return pane.place(pane.highlighted)


async def test_deleting_asks_and_names_what_goes_with_it():
    async with interface() as shown:
        await tell(shown)
        await shown.press("down", "d")
        assert isinstance(shown.app.screen, ConfirmScreen)
        assert "Delete branch old, and what forks from it: deeper?" in shown.text
        for key in ("escape", "n", "q"):
            await shown.press(key)
            assert names(shown) == ["main", "old", "deeper", "other"]
            await shown.press("d")
        await shown.press("y")
        assert names(shown) == ["main", "other"]
        assert shown.message.startswith("deleted branches old, deeper with mark lost; ")
        assert looked_at(shown) == "other"
        await shown.press("delete")
        assert "Delete branch other?" in shown.text
        await shown.press("enter")
        assert names(shown) == ["main"]
        assert looked_at(shown) == "main"
        assert shown.view.branch.name == "main"


async def test_what_cannot_be_deleted_is_said_without_a_question():
    async with interface(size=(160, 50)) as shown:
        await tell(shown)
        await shown.press("home", "d")
        assert shown.message == "branch 'main' is the first one, from which all others come; delete those instead"
        await shown.run("goto deeper")
        await shown.press("d")
        assert shown.message == "branch 'deeper' is the one that the cursor is on; go to another branch first"
        await shown.press("up", "d")
        assert shown.message == "the cursor is on 'deeper', which forks from 'old'; go to another branch first"
        assert names(shown) == ["main", "old", "deeper", "other"]


async def test_a_branch_is_renamed_and_stays_looked_at():
    async with interface() as shown:
        await tell(shown)
        await shown.press("down", "down", "r")
        assert shown.rows[-1].startswith(" rename-branch deeper: deeper")
        await shown.write("retry")
        await shown.press("enter")
        assert names(shown) == ["main", "old", "retry", "other"]
        assert looked_at(shown) == "retry"
        assert shown.message == "branch deeper is retry now; moments that say deeper still mean it"
        await shown.press("r", "enter")
        assert "there is a branch 'retry' already" in shown.message
        await shown.press("r")
        await shown.write("9 lives")
        await shown.press("enter")
        assert "not a name: '9 lives'" in shown.message
        await shown.press("r", "escape")
        assert names(shown) == ["main", "old", "retry", "other"]
        await shown.press("home", "r")
        await shown.write("trunk")
        await shown.press("enter")
        assert (shown.view.branch.name, looked_at(shown)) == ("trunk", "trunk")


async def test_a_note_is_written_changed_and_taken_away():
    async with interface() as shown:
        await tell(shown)
        note = r"""it's #1, "say" \n"""
        await shown.press("down", "a")
        await shown.write(note)
        await shown.press("enter")
        assert shown.view.branches[1].note == note
        assert note in shown.text
        assert looked_at(shown) == "old"
        await shown.press("a", "end")
        await shown.write("!")
        await shown.press("enter")
        assert shown.view.branches[1].note == f"{note}!"
        await shown.press("a", "ctrl+u", "enter")
        assert shown.view.branches[1].note == ""
        assert shown.message == "old: no note any more"


async def test_notes_are_shown_where_branches_and_marks_are():
    async with interface(size=(160, 50)) as shown:
        await tell(shown, "annotate old 'one \x1b[31mred'", "mark here", "annotate here 'an end'", "view events")
        assert "b branch old: one  [31mred" in shown.text
        assert "m mark here: an end" in shown.text


async def test_the_keys_can_be_others():
    settings = Settings(speed=0.01, keys={"branches.delete": "f6"})
    async with interface(settings=settings) as shown:
        await tell(shown)
        await shown.press("end", "f6", "y")
        assert names(shown) == ["main", "old", "deeper"]


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (40, 10)])
async def test_the_question_fits(size):
    async with interface(size=size) as shown:
        await tell(shown, "goto old", "step", *(f"branch {'x' * 29}{number}" for number in range(7)))
        await shown.run("goto main")
        await shown.press("home", "down", "d")
        assert "Delete branch" in shown.text
        if size[1] >= 24:
            assert "and 2 more?" in shown.text
        assert len(shown.rows) == size[1]
        assert all(len(row) <= size[0] for row in shown.rows)
        await shown.press("y")
        assert shown.app.is_running
