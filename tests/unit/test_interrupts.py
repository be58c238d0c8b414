"""An interrupt that comes while a finalizer runs is not lost."""

import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import os, signal, sys, time, weakref

    from cc_tui.interrupts import keep_interrupts

    def leave(number, frame):
        raise SystemExit(130)

    signal.signal(signal.SIGTERM, leave)
    number = signal.Signals[sys.argv[1]]

    def interrupt(*_):
        os.kill(os.getpid(), number)
        for _ in range(100):
            pass  # here the handler runs

    class Finalized:
        def __del__(self):
            interrupt()

    class Watched:
        pass

    keep_interrupts()
    try:
        if sys.argv[2] == "finalizer":
            Finalized()
        else:
            watched = Watched()
            reference = weakref.ref(watched, interrupt)
            del watched
        time.sleep(30)
    except KeyboardInterrupt:
        print("cancelled")
        sys.exit(1)
"""


@pytest.mark.parametrize("where", ["finalizer", "callback"])
@pytest.mark.parametrize(("name", "code", "said"), [("SIGTERM", 130, ""), ("SIGINT", 1, "cancelled\n")])
def test_an_interrupt_in_a_finalizer_is_raised_again(name, code, said, where):
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), name, where], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (code, said, "")
    assert time.monotonic() - begin < 25  # seconds; without it, the sleep goes on for 30


def test_other_exceptions_in_finalizers_are_reported_as_ever():
    program = """
        from cc_tui.interrupts import keep_interrupts

        class Finalized:
            def __del__(self):
                raise ValueError("a mistake")

        keep_interrupts()
        Finalized()
        print("on")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "on\n")
    assert "ValueError: a mistake" in run.stderr
