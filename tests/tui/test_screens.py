"""Whole screens, one picture each, taken when the interface is at rest, compared with tests/tui/screens.

The picture is what a terminal shows that was sent everything the interface has written, so it also holds that
redrawing in part leaves nothing stale. CC_TUI_SCREENS=write writes them anew.
"""

import os
from pathlib import Path

import pytest
import story
from interface import interface

SCREENS = Path(__file__).parent / "screens"
SIZES = {"80x24": (80, 24), "160x50": (160, 50)}
STORY = (
    "goto 300us",
    r'type 0 "hello\r"',
    "goto 500us",
    "mark",
    "goto 280us",
    "branch other",
    r'type 1 "there\r"',
    "goto 450us",
    "reverse-tick",
)
"""Two histories, inputs to both machines, a mark, and a cursor that is in the past."""
NOTES = (
    ":branch deeper",
    ":annotate other 'the second leader wins: no vote of vm1 is counted, and nobody notices for a long while'",
    r':annotate main "\e[31mred\x1b]0;x\x07 né"',
    ":annotate m1 'just before'",
    ":rename-branch deeper retry",
    ":goto other",
)
"""A branch more, and what is said of all."""
SCENES = {
    "console": ("1",),
    "all": (":view all",),
    "machine": (":view machine",),
    "branches": (":view branches",),
    "branches-noted": (*NOTES, ":view branches", "home"),
    "branches-events": (*NOTES, ":view events"),
    "branches-delete": (*NOTES, ":goto main", ":view branches", "down", "d"),
    "branches-rename": (*NOTES, ":view branches", "r"),
    "branches-note": (*NOTES, ":view branches", "a"),
    "branches-help": (":view branches", "question_mark"),
    "events": (":view events",),
    "help": ("1", "question_mark"),
    "help-assert": (":help assert",),
    "attached": ("1", "enter"),
    "prompt": ("colon", *"until"),
    "browse": ("1", "up", "up", "up"),
    "leave": ("1", "q"),
    "palette": ("ctrl+p",),
    "palette-found": ("ctrl+p", *"event", "down"),
}
"""Keys that lead from the end of the story to the scene; `:` begins a command line."""
CLUSTER_STORY = ("goto 500us", "goto 360us", "tick")
CLUSTER_SCENES = {
    "faults": (":view faults",),
    "faults-zoomed": (":view faults", "plus", "plus", "up"),
    "properties": (":view properties",),
    "properties-filtered": (":view properties", ":find leader"),
    "network": (":view network", ":goto 250us"),
    "coverage": (":view coverage", "t"),
    "cluster-events": (":view events",),
    "inject-kinds": ("f", *"disk"),
    "inject-fields": ("f", *"loss", "enter", "right"),
    "inject-mistake": ("f", *"loss", "enter", "down", "0", "0"),
    "cluster-help": (":view faults", "question_mark"),
}
"""Scenes of three machines and the made-up story of story.py."""


async def check(shown, name: str, steps: tuple[str, ...]) -> None:
    path = SCREENS / f"{name}.txt"
    for step in steps:
        await (shown.run(step[1:]) if step.startswith(":") else shown.press(step))
    picture = shown.picture
    assert picture == shown.rows, "what was drawn bit by bit is what is drawn at once"
    if os.environ.get("CC_TUI_SCREENS") == "write":
        path.write_text("\n".join(picture) + "\n")
    assert picture == path.read_text().split("\n")[:-1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCENES)
async def test_screens(name, size):
    async with interface(2, SIZES[size]) as shown:
        await check(shown, f"{name}-{size}", (*(f":{line}" for line in STORY), *SCENES[name]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLUSTER_SCENES)
async def test_screens_of_a_cluster(name, size, monkeypatch):
    monkeypatch.setattr("cc_tui.looker.Looker.look", story.look)
    async with interface(3, SIZES[size]) as shown:
        await check(shown, f"{name}-{size}", (*(f":{line}" for line in CLUSTER_STORY), *CLUSTER_SCENES[name]))
