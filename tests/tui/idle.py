"""When the interface is at rest: nothing is on its way from the engine's thread and nothing is left to draw.

Nothing here waits for time to pass. Every widget of Textual handles its messages in a task of its own; one that has
nothing left to do waits in its queue's `get`, and the queue knows that. Textual offers no such view, so this looks
at its private names; a newer Textual that renames them makes every interface test fail at once, not now and then.
"""

import asyncio


def unfinished(app, session) -> str:
    """What the interface has not finished yet, or nothing.

    True of the moment only: what another thread has just posted is seen after the event loop has gone round once.
    """
    if app._exit:
        return ""
    if not session.idle:
        return "the session is at work"
    if any(not worker.is_finished for worker in app.workers):
        return "a worker is at work"
    if app._animator._animations or app._animator._scheduled:
        return "something is animated"
    if app._resize_event is not None:
        return "the terminal's new size waits"
    pumps = [app]
    for screen in app.screen_stack:
        pumps += [screen, *screen.walk_children()]
        if screen._layout_required or screen._scroll_required or screen._dirty_widgets or screen._callbacks:
            return f"{screen} waits to be drawn"
        if screen._repaint_required and screen is app.screen:
            # One beneath a dialog asks for it without end: each time it is drawn, for the time after.
            return f"{screen} waits to be painted"
    for pump in pumps:
        waiting = pump._message_queue.ready_event._waiters
        if not pump._message_queue.empty() or not waiting or waiting[0].done() or pump._next_callbacks:
            return f"{pump} has messages"
    return ""


async def rest(app, session, seconds: float = 30.0) -> None:
    """Wait until the interface is at rest."""
    end = asyncio.get_running_loop().time() + seconds
    clean = 0
    while clean < 3:
        await asyncio.sleep(0)
        left = unfinished(app, session)
        if not left:
            clean += 1
            continue
        clean = 0
        await asyncio.sleep(0.001)
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"the interface does not come to rest: {left}")
