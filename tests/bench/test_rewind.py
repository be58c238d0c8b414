"""Rewinding in the interface: from the key to the screen that shows it, on the real engine."""

from __future__ import annotations

import asyncio
from time import perf_counter

from figures import median, ms, percentile, show_table
from textual import events

from cc_tui.options import LaunchOptions
from cc_tui.session import Session
from cc_tui.tui.app import CcApp
from cc_tui.tui.panes.bars import StatusBar
from chaoscontrol.cluster import SimulationController

REWINDS = 100
P95_MAX_S = 0.100
PLACES = (("idle at its prompt", "5s"), ("booting", "12ms"))


async def press_and_wait(app: CcApp, key: str, character: str) -> float:
    """Seconds from a key to the status bar that shows another position, drawn."""
    session = app.session
    before = session.view.position
    status = app.screen.query_one(StatusBar)
    begun = perf_counter()
    app.post_message(events.Key(key, character))
    shown = before
    while shown == before or app.screen._dirty_widgets or app.screen._repaint_required:  # pyright: ignore
        await asyncio.sleep(0.0005)
        view = status._view  # pyright: ignore
        shown = before if view is None else view.position
    return perf_counter() - begun


async def rewind(vms: int, place: str, size: tuple[int, int]) -> list[float]:
    session = Session(SimulationController(LaunchOptions(vms=vms).simulation()))
    app = CcApp(session, run=False)
    try:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await asyncio.to_thread(session.execute, 'until "guest> "')
            await asyncio.to_thread(session.execute, f"goto {place}")
            await pilot.pause()
            return [await press_and_wait(app, "T", "T") for _ in range(REWINDS)]
    finally:
        session.close()


def test_rewinding_a_tick_in_the_interface() -> None:
    rows: list[tuple[str, ...]] = []
    worst: list[float] = []
    for vms in (1, 3):
        for size in ((80, 24), (160, 50)):
            for what, place in PLACES:
                times = asyncio.run(rewind(vms, place, size))
                worst.append(percentile(times, 0.95))
                name = f"{vms} machine{'s' * (vms > 1)}, {size[0]}x{size[1]}, {what}"
                rows.append((name, ms(median(times)), ms(worst[-1]), ms(max(times)), "100.0 ms"))
    show_table("rewind of one tick, from key to screen", ("", "p50", "p95", "most", "limit of p95"), rows)
    assert max(worst) < P95_MAX_S
