"""WorkerPool: processes that run branches for a search, each with a cluster of its own.

They are plain subprocesses over pipes, started as `python -m`, so it does not matter what program the search is part
of. Which worker runs a branch has no influence on the branch. No worker outlives the pool, however it ends: they are
killed by close(), and end by themselves when the pipe to this process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, cast

from chaoscontrol import errors
from chaoscontrol.errors import ChaosControlError, EngineError

from .wire import plan_to_table, result_from_table, scenario_to_table

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    from chaoscontrol.scenario import Scenario
    from chaoscontrol.trial import BranchResult

    from .blind import BranchPlan

CHUNK_BYTES = 1 << 16
WORKERS_MAX = 256
_OURS_TO_HANDLE = {signal.SIGINT, signal.SIGTERM}


@contextlib.contextmanager
def _blocked(signals: set[signal.Signals]) -> Generator[None]:
    """For starting children that these must not end: they inherit the mask, so there is no moment without it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """One process, the branch that it runs, and what it has said of it so far."""

    def __init__(self, greeting: bytes) -> None:
        self.plan: BranchPlan | None = None
        self._said = b""
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        # The same modules as here, observers included; -P: and not those of the directory that this happens to be.
        path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "chaoscontrol.explore.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._send(greeting)

    def _send(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self.ended() from None

    @property
    def output(self) -> int:
        """The descriptor that its answers come from."""
        stdout = self._process.stdout
        assert stdout is not None
        return stdout.fileno()

    def start(self, plan: BranchPlan) -> None:
        """Gives it a branch to run."""
        assert self.plan is None
        self.plan = plan
        self._send(json.dumps(plan_to_table(plan)).encode())

    def read(self) -> list[dict[str, Any]]:
        """The answers that are complete by now. Raises EngineError if the process has ended."""
        data = os.read(self.output, CHUNK_BYTES)
        if not data:
            raise self.ended()
        *lines, self._said = (self._said + data).split(b"\n")
        return list(map(json.loads, lines))

    def ended(self) -> EngineError:
        """Why the process is no more."""
        code = self._process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        doing = "as it started" if self.plan is None else f"in branch {self.plan.number}"
        self._messages.seek(0)
        said = [line for line in self._messages.read().decode(errors="replace").splitlines() if line.strip()]
        return EngineError(f"a worker {how} {doing}", hint=f"it last said: {said[-1][:200]}" if said else "")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._messages):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _raise(answer: dict[str, Any]) -> None:
    kind = getattr(errors, answer["error"], EngineError)
    if not (isinstance(kind, type) and issubclass(kind, ChaosControlError)):
        kind = EngineError
    raise cast("type[ChaosControlError]", kind)(answer["what"], where=answer["where"], hint=answer["hint"])


class WorkerPool:
    """So many workers of one search. Used by one thread; close() it, or use it in a with statement."""

    def __init__(self, scenario: Scenario, seed: int, count: int) -> None:
        assert 1 <= count <= WORKERS_MAX
        greeting = json.dumps({"scenario": scenario_to_table(scenario), "seed": seed}).encode()
        self.are_machines_ready = False
        """Those of some worker have booted and are ready for faults."""
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        try:
            # Nor may they interrupt this: a process that is not in the list yet would not be ended.
            with _blocked(_OURS_TO_HANDLE):
                for _ in range(count):
                    worker = _Worker(greeting)
                    self._workers.append(worker)
                    self._selector.register(worker.output, selectors.EVENT_READ, worker)
        except BaseException:
            self.close()
            raise

    @property
    def idle(self) -> int:
        """How many have nothing to do."""
        return sum(worker.plan is None for worker in self._workers)

    @property
    def busy(self) -> int:
        """How many run a branch."""
        return len(self._workers) - self.idle

    def start(self, plan: BranchPlan) -> None:
        """Gives a branch to an idle worker."""
        next(worker for worker in self._workers if worker.plan is None).start(plan)

    def wait(self, timeout_s: float) -> Sequence[tuple[BranchPlan, BranchResult]]:
        """Branches that have ended, in no particular order; waits for one, but not longer than timeout_s.

        Raises what was raised in a worker, and EngineError for a worker that is no more.
        """
        found: list[tuple[BranchPlan, BranchResult]] = []
        for key, _ in self._selector.select(timeout_s):
            worker = cast("_Worker", key.data)
            for answer in worker.read():
                if "ready" in answer:
                    self.are_machines_ready = True
                    continue
                plan, worker.plan = worker.plan, None
                assert plan is not None
                if "result" not in answer:
                    _raise(answer)
                found.append((plan, result_from_table(answer["result"])))
        return found

    def close(self) -> None:
        """Ends the workers at once, whatever they do; does nothing the second time."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()
        self._selector.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
