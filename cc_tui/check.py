"""What `cc-tui check` does: a property over recordings, for a person or for CI.

What events say needs neither images nor machines; a property at an address lives through each recording again.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from cc_tui.commands import Bench
from cc_tui.commands.hindsight import ALL, data_of, lines_of, read_check
from cc_tui.console_text import safe_line
from cc_tui.diagnostics import ExitCode
from cc_tui.opening import open_history
from chaoscontrol.debug.hindsight import verdict_over
from chaoscontrol.oracle import Verdict
from chaoscontrol.recording import load_recording, told_branches
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cc_tui.commands.hindsight import Check
    from chaoscontrol.debug.hindsight import Judged
    from chaoscontrol.recording import Recording
    from chaoscontrol.timetravel import Multiverse

PROGRESS_S = 0.5


def check(
    files: Sequence[str],
    words: Sequence[str],
    *,
    images: Sequence[str] = (),
    observers: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Judges the property that `words` say over recordings; FAILED unless it has passed over all of them together.

    Branches that it does not name are all branches. Raises ChaosControlError.
    """
    judged: list[Judged] = []
    for file in files:
        with load_recording(file) as recording:
            asked = read_check(list(words), recording.header.config.quantum_ns)
            found = _by_what_is_told(recording, asked) if asked.address is None else None
        if found is None:
            found = _by_living(file, asked, images, observers)
        judged += found
        _print(file, asked, found, as_json=as_json)
    return ExitCode.OK if verdict_over(judged) is Verdict.PASSED else ExitCode.FAILED


def _by_what_is_told(recording: Recording, asked: Check) -> list[Judged]:
    wanted = None
    if asked.branches not in ((), (ALL,)):
        wanted = [recording.branch(name).name for name in asked.branches]
    told = [one for one in told_branches(recording) if wanted is None or one.branch in wanted]
    return [one for branch in told for one in asked.judge_told(branch)]


def _by_living(file: str, asked: Check, images: Sequence[str], observers: Sequence[str]) -> list[Judged]:
    with open_history(file, images=images, observers=observers, at_end=False) as history:
        multiverse = history.multiverse
        multiverse.watch(_progress(file, multiverse))
        bench = Bench(multiverse, history.quantum_ns, lambda _: None, kernel=history.kernel or None)
        try:
            return asked.on(asked.branches or (ALL,)).judge(bench)
        finally:
            diagnostics.end_transient()


def _progress(file: str, multiverse: Multiverse) -> Callable[[], None]:
    """Says how far it is, where stderr is a terminal."""
    said_s = time.monotonic()

    def tell() -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= PROGRESS_S:
            said_s = time.monotonic()
            diagnostics.transient(f"{file}: at {multiverse.branch.name}@{format_seconds(multiverse.position.vns)}")

    return tell


def _print(file: str, asked: Check, judged: Sequence[Judged], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"file": file, "property": asked.name, **data_of(judged)}, ensure_ascii=True), flush=True)
        return
    print(f"{safe_line(file)}: {safe_line(asked.name)}")
    for one in judged:
        for line in lines_of(asked, one):
            print(safe_line(line), flush=True)


__all__ = ["check"]
