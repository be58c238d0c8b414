"""Rebuild: from a configuration to a recording's header, and from a header to a cluster that stands at virtual time 0.

Images are looked for by their hash: embedded in the recording, among the included ones, in the files given, and in the
file that was used when it was recorded. A header comes from a file that anybody may have written: the module that it
names for judging is imported only if an included scenario names it too, or the caller trusts it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol import __version__, loader
from chaoscontrol.cluster import SimulationController
from chaoscontrol.errors import UsageError
from chaoscontrol.images import images_dir
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.header import Header, Image, Judge
from chaoscontrol.scenario import load_scenario, scenario_names
from chaoscontrol.timetravel import ClusterWitness

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaoscontrol.cluster import SimulationConfig
    from chaoscontrol.faults import FaultSchedule
    from chaoscontrol.recording.reader import Recording

ImagePath = str | os.PathLike[str]


class Identity(NamedTuple):
    """What an image is recognised by."""

    sha256: bytes
    size: int
    """Bytes inflated."""


def _included() -> dict[str, tuple[str, Identity]]:
    """By file: the SHA-256 of the compressed file, and the identity of what is in it; as the manifest says."""
    directory = images_dir()
    manifest = json.loads((Path(directory) / "manifest.json").read_text(encoding="utf-8"))
    return {
        os.path.join(directory, image["file"]): (
            image["compressed"]["sha256"],
            Identity(bytes.fromhex(image["uncompressed"]["sha256"]), image["uncompressed"]["bytes"]),
        )
        for recipe in manifest["recipes"].values()
        for image in recipe["images"].values()
    }


def identify(path: ImagePath) -> Identity:
    """What is in an image file. Raises UsageError."""
    name = os.path.realpath(path)
    known = {os.path.realpath(file): entry for file, entry in _included().items()}.get(name)
    if known is not None and hashlib.sha256(Path(name).read_bytes()).hexdigest() == known[0]:
        return known[1]
    _, data = loader.read_source(os.fspath(path), "image")
    return Identity(hashlib.sha256(data).digest(), len(data))


# ---- to a header -----------------------------------------------------------------------------------------------------


def _files(config: SimulationConfig) -> list[tuple[str, str]]:
    files = (("kernel", config.kernel_path), ("initrd", config.initrd_path), ("disk", config.disk_path))
    return [(role, os.fspath(path)) for role, path in files if path is not None]


def make_header(
    config: SimulationConfig,
    *,
    heading: str = "",
    judge: Judge | None = None,
    schedule: FaultSchedule | None = None,
    self_contained: bool = False,
) -> Header:
    """The header of a recording of the cluster that `config` describes. Raises UsageError for images."""
    images = tuple(Image(role, _name(path), *identify(path), self_contained) for role, path in _files(config))
    made = Header(__version__, heading, _without_files(config), images, judge or Judge())
    return made if schedule is None else dataclasses.replace(made, schedule=schedule)


def _without_files(config: SimulationConfig) -> SimulationConfig:
    host_only = {"kernel_path": None, "initrd_path": None, "disk_path": None, "threads": None}
    vm = config.vm_config.replace(seed=0, machine_id=0, tlb_bits=None, code_cache_kib=None)
    return dataclasses.replace(config, **host_only, vm_config=vm)


def _name(path: str) -> str:
    """What a person knows an image file by: the name of an included one, or its path."""
    if os.path.realpath(os.path.dirname(path)) == os.path.realpath(images_dir()):
        return os.path.basename(path)
    return path


def embedded_images(header: Header, config: SimulationConfig) -> Iterable[tuple[int, bytes | memoryview]]:
    """What a Recorder wants of the images that the header calls embedded, read from the files of `config`."""
    files = dict(_files(config))
    for number, image in enumerate(header.images):
        if image.embedded:
            yield number, loader.read_source(files[image.role], image.role)[1]


# ---- from a header ---------------------------------------------------------------------------------------------------


class Rebuilt:
    """A cluster as it was when the recording began, and what watches it; close() frees it."""

    def __init__(self, cluster: SimulationController, witness: ClusterWitness) -> None:
        self.cluster = cluster
        self.witness = witness

    def close(self) -> None:
        """Frees the machines."""
        self.cluster.close()


def rebuild(
    recording: Recording,
    *,
    images: Sequence[ImagePath] = (),
    trusted_observers: Sequence[str] = (),
    threads: int | None = None,
    packets: bool = False,
) -> Rebuilt:
    """The cluster of a recording. Raises RecordingError, UsageError.

    `images`: files to look for its images in. `packets`: what the network carries is captured.
    """
    header = recording.header
    try:
        properties = _trusted(header.judge, trusted_observers, recording.path).properties()
    except re.error as e:
        raise RecordingError(f"a pattern in its header is no regular expression: {e}", path=recording.path) from None
    with tempfile.TemporaryDirectory(prefix="cc-tui-") as directory:
        files = {image.role: _find(number, recording, images, directory) for number, image in enumerate(header.images)}
        config = dataclasses.replace(
            header.config,
            kernel_path=files.get("kernel"),
            initrd_path=files.get("initrd"),
            disk_path=files.get("disk"),
            threads=threads,
        )
        cluster = SimulationController(config)
    try:
        if header.schedule.faults:
            cluster.set_schedule(header.schedule)
        return Rebuilt(cluster, ClusterWitness(cluster, PropertyOracle(properties), packets=packets))
    except BaseException:
        cluster.close()
        raise


def _trusted(judge: Judge, trusted: Sequence[str], path: str) -> Judge:
    if judge.observer is None or judge.observer in trusted:
        return judge
    if judge.observer in {load_scenario(name).observer for name in scenario_names()}:
        return judge
    raise RecordingError(
        f"its properties are judged by {judge.observer!r}, which no included scenario uses",
        path=path,
        hint="if you trust that module, name it with --trust-observer",
    )


def _find(number: int, recording: Recording, given: Sequence[ImagePath], directory: str) -> str:
    """The file of an image: of the recording, included, given, beside the recording, or where it was."""
    image = recording.header.images[number]
    wanted = Identity(image.sha256, image.size)
    if image.embedded:
        return _extract(number, recording, os.path.join(directory, image.role))
    for path in given:
        if identify(path) == wanted:
            return os.fspath(path)
    beside = os.path.join(os.path.dirname(recording.path), os.path.basename(image.name))
    if os.path.isfile(beside):
        with contextlib.suppress(UsageError):
            if identify(beside) == wanted:
                return beside
    for file, (_, identity) in _included().items():
        if identity == wanted and identify(file) == wanted:
            return file
    digits = image.sha256.hex()[:16]
    if os.path.isfile(image.name):
        try:
            if identify(image.name) == wanted:
                return image.name
        except UsageError:
            pass
        what = f"its {image.role} {image.name} is not what it was when this was recorded (SHA-256 {digits}...)"
    elif image.name in {os.path.basename(file) for file in _included()}:
        what = f"its {image.role} was the included {image.name} of SHA-256 {digits}..., which is another one now"
    else:
        what = f"its {image.role} {image.name} (SHA-256 {digits}..., {image.size} bytes) is not here"
    raise RecordingError(what, path=recording.path, hint="give the file with --image")


def _extract(number: int, recording: Recording, path: str) -> str:
    image, sha256 = recording.header.images[number], hashlib.sha256()
    with open(path, "wb") as out:  # noqa: PTH123  written in pieces
        for piece in recording.image_pieces(number):
            sha256.update(piece)
            out.write(piece)
    if sha256.digest() != image.sha256:
        raise RecordingError(f"its embedded {image.role} is not what its header says", path=recording.path)
    return path


__all__ = ["Identity", "Rebuilt", "embedded_images", "identify", "make_header", "rebuild"]
