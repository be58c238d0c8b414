"""A worker of a search: `python -m chaoscontrol.explore.worker`, started and fed by workers.WorkerPool.

Reads lines of JSON on stdin, first the scenario and the seed, then one branch to run at a time; answers each branch
with a line on stdout, and says before the first answer that the machines are ready. It decides nothing: a branch is
a function of what stands in its line. It ends when its stdin does, whatever it is doing, so none outlives the process
that started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from chaoscontrol.errors import ChaosControlError

from .blind import BlindSearch
from .wire import plan_from_table, result_to_table, scenario_from_table

if TYPE_CHECKING:
    from typing import BinaryIO, TextIO


def _feed(source: BinaryIO, lines: queue.Queue[bytes]) -> None:
    for line in source:
        lines.put(line)
    os._exit(0)  # the main thread may be deep in the engine


def _error(e: Exception) -> dict[str, Any]:
    if isinstance(e, ChaosControlError):
        return {"error": type(e).__name__, "what": e.what, "where": e.where, "hint": e.hint}
    traceback.print_exc()
    if isinstance(e, MemoryError):
        return {"error": "EngineError", "what": "the host has no memory left", "where": "", "hint": "use fewer workers"}
    what = f"internal error in a worker: {type(e).__name__}: {e}"
    return {"error": "EngineError", "what": what, "where": "", "hint": "please report it"}


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    json.dump(answer, answers)
    answers.write("\n")
    answers.flush()


def main() -> None:
    """Runs branches until stdin ends."""
    # Answers alone go to the pipe; what an observer prints goes where messages go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_feed, args=(sys.stdin.buffer, lines), daemon=True).start()
    first = json.loads(lines.get())
    search: BlindSearch | None = None
    while True:
        line = lines.get()
        try:
            if search is None:
                search = BlindSearch(scenario_from_table(first["scenario"]), first["seed"])
                search.prepare()
                _answer(answers, {"ready": True})
            result = search.run(plan_from_table(json.loads(line)))
            answer = {"result": result_to_table(result)} if result is not None else {}
        except Exception as e:
            answer = _error(e)
        _answer(answers, answer)


if __name__ == "__main__":
    main()
