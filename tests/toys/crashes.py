"""Programs that record and come to a bad end.

    python -m toys.crashes kill SEED COUNT DIRECTORY   kills COUNT recording processes at random instants, and looks
    python -m toys.crashes full LIMIT PATH [strict]    records into a file that may have LIMIT bytes

`kill` prints one line, or the first thing that does not hold: every file opens, its last digests are replayed, and it
lacks nothing that had happened FLUSH_S before the process last came to rest.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

from chaoscontrol.random import Stream
from chaoscontrol.recording import Recorder, RecordingError, Replay, load_recording
from chaoscontrol.recording.writer import FLUSH_S
from chaoscontrol.timetravel import ConsoleInput, Multiverse
from toys.recordings import give, toy_header, toy_multiverse

STEP_NS = 20_000
KEYFRAME_INSNS = 500
KEYFRAME_NS = 120_000
"""No two digests of such a history are further apart."""
INPUT_EVERY = 40


def live(multiverse: Multiverse, log: int) -> None:
    """Run for ever, type now and then, and say after every step what time it is where."""
    step = 0
    while True:
        step += 1
        multiverse.run_to(step * STEP_NS)
        if step % INPUT_EVERY == 0:
            give(multiverse, ConsoleInput(step // INPUT_EVERY % 2, b"x%d\r" % step))
        os.write(log, b"%d %d %d\n" % (time.monotonic_ns(), multiverse.position.vns, len(multiverse.branch.inputs)))


def record_until_killed(path: Path, log_path: Path) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    recorder = Recorder(path, toy_header(), clock=time.monotonic)
    multiverse = toy_multiverse(keyframe_insns=KEYFRAME_INSNS)
    multiverse.observe(recorder)
    live(multiverse, log)


def killed_after(delay_s: float, path: Path, log_path: Path) -> None:
    log_path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            record_until_killed(path, log_path)
        finally:
            os._exit(1)
    while not log_path.exists() or not log_path.stat().st_size:
        time.sleep(0.001)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the recording process ended by itself"


def check(path: Path, log_path: Path) -> tuple[int, bool]:
    lines = [tuple(map(int, line.split())) for line in log_path.read_text().splitlines() if line.count(" ") == 2]
    with load_recording(path) as recording:
        (main,) = recording.branches
        if len(lines) > 1:
            rested_ns = lines[-2][0]
            due = [line for line in lines if line[0] < rested_ns - FLUSH_S * 1e9]
            if due:
                _, vns, inputs = due[-1]
                assert main.end.vns > vns - KEYFRAME_NS, f"it ends at {main.end.vns}, {vns} was reached long before"
                assert len(main.inputs) >= inputs, "an input is missing"
                assert recording.checkpoints(main), "there is no digest"
            assert len(main.inputs) >= lines[-1][2], "inputs are written before anything runs on"
        done = Replay(recording, toy_multiverse()).all()
        assert done.checkpoints == len(recording.checkpoints(main)), "not every digest was compared"
        return done.checkpoints, recording.damage is not None


def kill(seed: int, count: int, directory: Path) -> None:
    stream, digests, torn = Stream(seed, "kills"), 0, 0
    path, log_path = directory / "killed.ccrec", directory / "killed.log"
    for number in range(count):
        killed_after(stream.below(250) / 1000, path, log_path)
        try:
            found, is_torn = check(path, log_path)
        except (AssertionError, RecordingError) as error:
            sys.exit(f"kill {number} of seed {seed}: {error!r}")
        digests += found
        torn += is_torn
    print(f"{count} kills, {digests} digests replayed, {torn} torn ends")


def with_small_files(limit: int, command: list[str]) -> list[str]:
    """The command as one that can write no file of more than `limit` bytes: as on a full disk, for anybody."""
    text = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    return [sys.executable, "-c", f"{text}; os.execv(sys.argv[1], sys.argv[1:])", *command]


def full(limit: int, path: Path, strict: bool) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    said: list[str] = []
    recorder = Recorder(path, toy_header(), on_error=said.append, strict=strict)
    multiverse = toy_multiverse()
    multiverse.observe(recorder)
    for step in range(1, 60):
        multiverse.run_to(step * 50_000)
        give(multiverse, ConsoleInput(0, b"%d\r" % step))
    recorder.finish(multiverse)
    recorder.close()
    print(f"{multiverse.position.vns} {len(said)} {said[0] if said else ''}")


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    else:
        full(int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["strict"])
