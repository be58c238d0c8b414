"""One run of three Raft nodes, as a function for tests and as a process: digests on the way and what was committed.

    python raft_run.py [--threads N] [--restores SEED] [--seconds N]

The scenario, its seed and the length are what is run; threads, snapshots and restores at random ticks must not matter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from chaoscontrol.events import SdkEvent
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario
from chaoscontrol.trial import Trial

SEED = 1
SECOND_NS = 1_000_000_000
DIGEST_EVERY_NS = SECOND_NS // 2
TICKS_MAX = 1_500
"""Between two restores, and how far a run goes before it is taken back."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of it."""

    digests: list[str]
    """At the ready state, every half virtual second after it, and at the end."""
    committed: dict[int, int]
    """Node: the highest index that it said to have applied."""


def run(*, threads: int | None = 1, seconds: int = 2, restores: int | None = None) -> Run:
    """Boots the raft scenario and goes on for some virtual seconds after it is ready.

    restores: a seed; at random ticks the cluster goes on for a random while, and is then taken back.
    """
    committed: dict[int, int] = {}
    with Trial(load_scenario("raft"), seed=SEED, threads=threads) as trial:

        def note(data: object) -> None:
            if isinstance(data, SdkEvent) and data.message == "raft_commit":
                details = json.loads(data.json)
                committed[details["node"]] = max(details["index"], committed.get(details["node"], 0))

        trial.on_events = lambda events: [note(event.data) for event in events] and None
        trial.run_to_ready()
        digests = [str(trial.cluster.digest())]
        stream = Stream(restores or 0, "restores")
        tick_ns = trial.cluster.quantum_ns
        end_ns = trial.cluster.vns + seconds * SECOND_NS
        while trial.cluster.vns < end_ns:
            next_ns = min(trial.cluster.vns + DIGEST_EVERY_NS, end_ns)
            while restores is not None and trial.cluster.vns < next_ns:
                forward_ns = trial.cluster.vns + (1 + stream.below(TICKS_MAX)) * tick_ns
                trial.run_to(min(forward_ns, next_ns))
                state = trial.snapshot()
                trial.run_to(trial.cluster.vns + (1 + stream.below(TICKS_MAX)) * tick_ns)
                trial.restore(state)
                state.close()
            trial.run_to(next_ns)
            digests.append(str(trial.cluster.digest()))
    return Run(digests, committed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int)
    parser.add_argument("--restores", type=int)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps(run(threads=options.threads, seconds=options.seconds, restores=options.restores).digests))


if __name__ == "__main__":
    main()
