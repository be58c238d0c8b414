"""Interrupts that are not lost: ctrl+c, or an end asked for by a signal, that came while a finalizer ran."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

AGAIN_S = 0.01
"""After how long it is raised again, in seconds."""

_before = sys.unraisablehook


def keep_interrupts() -> None:
    """From now on KeyboardInterrupt and SystemExit that Python swallowed are raised again, in the main thread.

    A signal's handler raises wherever the main thread happens to be. In a finalizer or a weak reference's callback
    Python can only report the exception, and whoever pressed ctrl+c would wait for ever.
    """
    sys.unraisablehook = _unraisable


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    value = args.exc_value
    if not isinstance(value, (KeyboardInterrupt, SystemExit)) or sys.is_finalizing():
        _before(args)
        return
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        _before(args)
        return
    kind, words = type(value), value.args

    def again(_number: int, _frame: FrameType | None) -> None:
        raise kind(*words)

    # Not here, where it would be swallowed as well, but soon.
    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)


__all__ = ["keep_interrupts"]
