"""Damages recordings in every way that a disk, a network or a person can, and reads what comes of it.

    python -m toys.mutations SEED COUNT

Half of the mutants are random damage, which the checksums find. The other half are made by somebody who knows the
format: contents of frames are changed and the checksums made right again, so that they reach the decoders. Whatever
happens must be a RecordingError; memory is limited by the process's address space. Prints how many were refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import msgpack
import zstandard

from cc_tui.cli import run_command_line
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.random import Stream
from chaoscontrol.recording import RecordingError, load_recording
from chaoscontrol.recording.frames import HEAD, MAGIC, PACKETS_MAGIC, PAYLOAD_BYTES_MAX
from toys.recordings import record_toy, write_every_kind

MEMORY_BYTES = 512 << 20
CLI_EVERY = 20
"""Mutants of which one goes through the command line as well."""
NUMBERS = (0, 1, 2, 31, 255, 256, 65535, 65536, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1, -1)
ODD = (None, True, False, "", "x" * 70_000, b"", b"\xff" * 300, [], [[]] * 50, {}, {"a": 1}, 1.5, "\0\x1b[2J", *NUMBERS)


class Chance:
    """Cheap draws: a block of the stream at a time."""

    def __init__(self, seed: int) -> None:
        self._stream = Stream(seed, "mutations")
        self._state = self._stream.u64() | 1

    def below(self, n: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        return (self._state >> 33) % n

    def of(self, choices):
        return choices[self.below(len(choices))]


# ---- blind damage ----------------------------------------------------------------------------------------------------


def flip_bits(data: bytearray, chance: Chance) -> bytearray:
    for _ in range(1 + chance.below(4)):
        data[chance.below(len(data))] ^= 1 << chance.below(8)
    return data


def truncate(data: bytearray, chance: Chance) -> bytearray:
    return data[: chance.below(len(data))]


def cut_out(data: bytearray, chance: Chance) -> bytearray:
    at = chance.below(len(data))
    del data[at : at + 1 + chance.below(200)]
    return data


def put_in(data: bytearray, chance: Chance) -> bytearray:
    at, source = chance.below(len(data)), chance.below(len(data))
    data[at:at] = data[source : source + chance.below(200)]
    return data


def overwrite_number(data: bytearray, chance: Chance) -> bytearray:
    size = chance.of((1, 2, 4, 8))
    at = chance.below(max(len(data) - size, 1))
    data[at : at + size] = (chance.of(NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, "little")
    return data


# ---- damage with a pen -----------------------------------------------------------------------------------------------


def frames_of(data: bytes) -> list[tuple[list[int], bytes]]:
    """(fields of the head, payload inflated) of every frame."""
    found: list[tuple[list[int], bytes]] = []
    at = len(MAGIC)
    while at < len(data):
        fields = list(HEAD.unpack_from(data, at))
        stored = data[at + HEAD.size : at + HEAD.size + fields[0]]
        found.append((fields, zstandard.decompress(stored) if fields[2] & 1 else stored))
        at += HEAD.size + fields[0]
    return found


def signed(fields: list[int], stored: bytes) -> bytes:
    """A frame whose checksums are right, whatever else it says."""
    fields = [len(stored), *fields[1:5], crc32(stored), *fields[6:9], 0]
    head = HEAD.pack(*fields)[:-4]
    return head + crc32(head).to_bytes(4, "little") + stored


def joined(frames: list[tuple[list[int], bytes]], magic: bytes = MAGIC) -> bytearray:
    out = bytearray(magic)
    for fields, payload in frames:
        stored = zstandard.compress(payload) if fields[2] & 1 else payload
        fields[8] = min(len(payload), (1 << 32) - 1)
        out += signed(fields, stored)
    return out


def change_value(value: object, chance: Chance) -> object:
    """Somewhere in nested lists, something else."""
    if not isinstance(value, list) or not value or chance.below(6) == 0:
        return chance.of(ODD)
    changed = list(value)
    match chance.below(8):
        case 0:
            del changed[chance.below(len(changed))]
        case 1:
            changed.insert(chance.below(len(changed) + 1), chance.of(ODD))
        case 2:
            changed += changed * chance.below(3)
        case _:
            at = chance.below(len(changed))
            changed[at] = change_value(changed[at], chance)
    return changed


def change_payload(data: bytearray, chance: Chance) -> bytearray:
    frames = frames_of(bytes(data))
    for _ in range(1 + chance.below(2)):
        at = chance.below(len(frames))
        fields, payload = frames[at]
        value = change_value(msgpack.unpackb(payload, raw=False, strict_map_key=False), chance)
        frames[at] = fields, msgpack.packb(value, unicode_errors="replace")
    return joined(frames, data[: len(MAGIC)])


def scribble_payload(data: bytearray, chance: Chance) -> bytearray:
    frames = frames_of(bytes(data))
    at = chance.below(len(frames))
    fields, payload = frames[at]
    scribble = chance.of((flip_bits, cut_out, put_in, overwrite_number, truncate))
    frames[at] = fields, bytes(scribble(bytearray(payload or b"\0"), chance))
    return joined(frames, data[: len(MAGIC)])


def change_head(data: bytearray, chance: Chance) -> bytearray:
    """Kind, flags, branch, sequence, times, inflated size."""
    frames = frames_of(bytes(data))
    at, field = chance.below(len(frames)), chance.of((1, 2, 3, 4, 6, 7, 8))
    out = data[: len(MAGIC)]
    for number, (fields, payload) in enumerate(frames):
        stored = zstandard.compress(payload) if fields[2] & 1 else payload
        if number == at:
            size = {1: 8, 2: 8, 3: 16, 4: 32, 6: 64, 7: 64, 8: 32}[field]
            fields[field] = chance.of(NUMBERS) & (1 << size) - 1 if chance.below(2) else chance.below(9)
        out += signed(fields, stored)
    return out


def shuffle_frames(data: bytearray, chance: Chance) -> bytearray:
    frames = frames_of(bytes(data))
    match chance.below(3):
        case 0:
            frames.insert(chance.below(len(frames)), frames[chance.below(len(frames))])
        case 1:
            del frames[chance.below(len(frames))]
        case _:
            a, b = chance.below(len(frames)), chance.below(len(frames))
            frames[a], frames[b] = frames[b], frames[a]
    numbered = [([*fields[:4], number, *fields[5:]], payload) for number, (fields, payload) in enumerate(frames)]
    return joined(numbered, data[: len(MAGIC)])


def bomb(data: bytearray, chance: Chance) -> bytearray:
    """What is small in the file and large in memory."""
    frames = frames_of(bytes(data))
    at = chance.below(len(frames))
    size = PAYLOAD_BYTES_MAX - 5
    payload = (
        b"\xdd" + (size & 0xFFFFFFFF).to_bytes(4, "big") + b"\x90" * size,
        b"\xdd" + (size // 2).to_bytes(4, "big") + b"\x91\x00" * (size // 2),
        b"\x91" * size,
        b"\xdd\x00\x0f\x00\x00" + b"\xa2hi" * 0xF0000,
        b"\x80" * size,
        bytes(64 << 20),
    )[chance.below(6)]
    frames[at][0][2] = 1
    frames[at] = frames[at][0], payload
    return joined(frames, data[: len(MAGIC)])


MUTATIONS: tuple[tuple[Callable[[bytearray, Chance], bytearray], int], ...] = (
    (flip_bits, 10), (truncate, 6), (cut_out, 6), (put_in, 6), (overwrite_number, 10),
    (change_payload, 30), (scribble_payload, 14), (change_head, 10), (shuffle_frames, 7), (bomb, 1),
)  # fmt: skip
WEIGHED = tuple(mutation for mutation, weight in MUTATIONS for _ in range(weight))


def read_everything(path: Path, *, images: bool = True) -> None:
    """What info, events, export and replay read."""
    with load_recording(path) as recording:
        for branch in recording.branches:
            for _ in recording.events(branch):
                pass
            for _ in recording.packets(branch):
                pass
            recording.checkpoints(branch)
        assert not any(mark.branch.deleted for mark in recording.marks.values())
        for number, image in enumerate(recording.header.images):
            if image.embedded and images:
                for _ in recording.image_pieces(number):
                    pass


def attempts(path: Path) -> Iterator[Callable[[], object]]:
    yield lambda: read_everything(path)

    def repaired() -> None:
        target = path.with_suffix(".repaired")
        with load_recording(path, up_to_damage=True) as recording:
            recording.repair(target)
        try:
            read_everything(target, images=False)  # whose pieces may be among what was lost
        except RecordingError as error:
            raise AssertionError("a repaired recording is refused") from error

    yield repaired


def through_the_command_line(path: Path) -> None:
    """What a person would type; anything but an error that can be said in one line is let through to the caller."""
    target = str(path.with_suffix(".cli"))
    lines = [["info"], ["info", "--json"], ["events"], ["export"], ["repair", "--output", target]]
    if path.read_bytes().startswith(PACKETS_MAGIC):
        lines.append(["export", "--format", "pcap", "--output", target])  # of others it would run toys as machines
    for words in lines:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(ChaosControlError):
            run_command_line([words[0], str(path), *words[1:]])


def main(seed: int, count: int, directory: Path) -> int:
    originals: list[bytes] = []
    for make in (record_toy, write_every_kind):
        make(directory / "original.ccrec")
        originals.append((directory / "original.ccrec").read_bytes())
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))
    chance, refused, path = Chance(seed), 0, directory / "mutant.ccrec"
    for number in range(count):
        mutate = chance.of(WEIGHED)
        mutant = mutate(bytearray(chance.of(originals)), chance)
        path.write_bytes(mutant)
        tries = list(attempts(path))
        if number % CLI_EVERY == 0:
            tries.append(lambda: through_the_command_line(path))
        for attempt in tries:
            try:
                attempt()
            except RecordingError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 1000, f"mutant {number}: {error}"
            except BaseException:
                print(f"mutant {number} of seed {seed} ({mutate.__name__}):")
                traceback.print_exc(file=sys.stdout)
                return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{count} mutants, {refused} refusals, at most {peak} MiB")
    return 0


if __name__ == "__main__":
    # In memory, where there is such a place: the files are many, small and short-lived.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as made:
        code = main(int(sys.argv[1]), int(sys.argv[2]), Path(made))
    sys.exit(code)
