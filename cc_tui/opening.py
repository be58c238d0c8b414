"""Opening: from the options of a command line to a cluster that stands at virtual time 0, and who watches it."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING, NamedTuple

from cc_tui import diagnostics
from cc_tui.about import About
from chaoscontrol.cluster import SimulationConfig, SimulationController
from chaoscontrol.oracle import PropertyOracle, kernel_properties
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.timetravel import ClusterWitness, Multiverse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cc_tui.options import LaunchOptions
    from cc_tui.session import Session
    from chaoscontrol.faults import FaultSchedule
    from chaoscontrol.oracle import HostProperty
    from chaoscontrol.recording import Header, Recorder, Recording
    from chaoscontrol.timetravel import ForetoldBranch, Mark
    from chaoscontrol.triage import Recipe


class Opened(NamedTuple):
    """A cluster and what belongs to it."""

    cluster: SimulationController
    witness: ClusterWitness
    kernel: str
    """The file that names addresses."""
    heading: str
    """The command line that opens it again."""


def scenario_of(options: LaunchOptions) -> Scenario | None:
    """The scenario that the options name, with what they change in it. Raises UsageError."""
    if options.scenario is None:
        return None
    scenario = load_scenario(options.scenario)
    changes = {
        "vms": ("count", options.vms),
        "quantum": ("quantum_ns", options.quantum_ns),
        "seed": ("seed", options.seed),
    }
    return dataclasses.replace(scenario, **dict(changes[name] for name in changes if name in options.given))


def configure(options: LaunchOptions) -> tuple[SimulationConfig, list[HostProperty], Scenario | None]:
    """The cluster that the options describe, and its host properties. Raises UsageError."""
    scenario = scenario_of(options)
    if scenario is None:
        return options.simulation(), kernel_properties(), None
    from chaoscontrol.trial import simulation_config

    return simulation_config(scenario, seed=scenario.seed), scenario.properties(), scenario


def open_cluster(options: LaunchOptions) -> Opened:
    """Make the cluster. Raises ChaosControlError."""
    config, properties, scenario = configure(options)
    schedule = _schedule_of(options, scenario)
    if schedule:
        schedule.check(config.num_vms)
    cluster = SimulationController(config)
    try:
        if schedule and schedule.faults:
            cluster.set_schedule(schedule)
        packets = options.record is not None and options.record_packets
        witness = ClusterWitness(cluster, PropertyOracle(properties), packets=packets)
    except BaseException:
        cluster.close()
        raise
    kernel = str(config.kernel_path)
    return Opened(cluster, witness, kernel, describe(options))


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """A cluster's histories, to be walked in; leaving it as a context frees the machines."""

    cluster: SimulationController
    multiverse: Multiverse
    kernel: str
    """The file that names addresses; empty if it is not at hand."""

    @property
    def quantum_ns(self) -> int:
        """Length of a tick."""
        return self.cluster.config.quantum_ns

    @property
    def initrd(self) -> str | None:
        """The initramfs' file, whose programs have symbols and source lines, if it is at hand."""
        return initrd_of(self.cluster)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()


def initrd_of(cluster: SimulationController) -> str | None:
    """The initramfs' file, if it is at hand: one that a recording held is gone once it is loaded."""
    path = cluster.config.initrd_path
    return str(path) if path is not None and os.path.exists(path) else None


def open_history(
    what: str | LaunchOptions,
    *,
    images: Sequence[str] = (),
    observers: Sequence[str] = (),
    at_end: bool = True,
    watch: Callable[[Multiverse], None] | None = None,
) -> History:
    """What a recording (its path) tells, at its end or at its beginning; or a new cluster at its beginning.

    images: files that may be images that the recording needs; observers: what it may be judged by, though no included
    scenario uses it. watch: called on the way of every movement, the first one to the end included. Raises
    ChaosControlError.
    """
    if not isinstance(what, str):
        opened = open_cluster(what)
        multiverse = Multiverse(opened.cluster, opened.witness)
        if watch is not None:
            multiverse.watch(lambda: watch(multiverse))
        return History(opened.cluster, multiverse, opened.kernel)
    told = _read_recorded(what, images, observers)
    try:
        multiverse = Multiverse(told.cluster, told.witness)
        if watch is not None:
            multiverse.watch(lambda: watch(multiverse))
        multiverse.foretell(told.branches, told.marks, told.deleted)
        if at_end:
            multiverse.goto_end(told.branches[-1].name)
    except BaseException:
        told.cluster.close()
        raise
    return History(told.cluster, multiverse, told.kernel or "")


def _schedule_of(options: LaunchOptions, scenario: Scenario | None) -> FaultSchedule | None:
    """The faults to come: those of the file, otherwise the scenario's."""
    from cc_tui.commands.faults import read_schedule

    if options.schedule is not None:
        return read_schedule(options.schedule)
    return None if scenario is None else scenario.schedule


def open_recorder(options: LaunchOptions, clock: Callable[[], float]) -> Recorder | None:
    """What records the session, if that is asked for. Raises ChaosControlError."""
    if options.record is None:
        return None
    from cc_tui.kept_recordings import SESSION_BYTES_MAX
    from chaoscontrol.recording import Recorder, RecordingError, embedded_images

    config, header = _header(options)
    asked = "record" in options.given
    try:
        return Recorder(
            options.record,
            header,
            clock=clock,
            images=embedded_images(header, config),
            packets=options.record_packets,
            bytes_max=None if asked else SESSION_BYTES_MAX,
        )
    except RecordingError as error:
        if asked:
            raise
        diagnostics.note(f"{diagnostics.PROGRAM}: the session is not recorded: {error}")
        return None


def _header(options: LaunchOptions) -> tuple[SimulationConfig, Header]:
    """What a recording of the cluster begins with, and the configuration that it is of. Raises ChaosControlError."""
    from chaoscontrol.recording import Judge, make_header

    config, _, scenario = configure(options)
    header = make_header(
        config,
        heading=describe(options),
        judge=None if scenario is None else Judge.of(scenario),
        schedule=_schedule_of(options, scenario),
        self_contained=options.self_contained,
    )
    return config, header


def _recipe(options: LaunchOptions) -> Recipe:
    from chaoscontrol.triage import recipe_of

    return recipe_of(_header(options)[1])


class OpenedSession(NamedTuple):
    """A session that was not started, and the file that names addresses in it."""

    session: Session
    kernel: str | None


def open_session(options: LaunchOptions, *, clock: Callable[[], float], attended: bool) -> OpenedSession:
    """A session on a new cluster, recorded if that is asked for. Raises ChaosControlError."""
    from cc_tui.session import Session

    opened = open_cluster(options)
    scenario = scenario_of(options)
    try:
        recorder = open_recorder(options, clock)
        session = Session(
            opened.cluster,
            opened.witness,
            heading=opened.heading,
            recorder=recorder,
            attended=attended,
            kernel=opened.kernel,
            initrd=initrd_of(opened.cluster),
            about=About(lambda: _recipe(options), None if scenario is None else scenario.observer),
        )
    except BaseException:
        opened.cluster.close()
        raise
    return OpenedSession(session, opened.kernel)


def open_recorded(
    path: str,
    *,
    images: Sequence[str] = (),
    observers: Sequence[str] = (),
    attended: bool,
    reads_ahead: bool = False,
) -> OpenedSession:
    """A session on what a recording tells: all of it is the known future. Raises ChaosControlError."""
    from cc_tui.session import Session

    told = _read_recorded(path, images, observers)
    try:
        heading = f"cc-tui {shlex.quote(path)}"
        session = Session(
            told.cluster,
            told.witness,
            heading=heading,
            attended=attended,
            kernel=told.kernel,
            initrd=initrd_of(told.cluster),
            about=told.about,
            reads_ahead=reads_ahead,
        )
        session.foretell(told.branches, told.marks, told.deleted)
    except BaseException:
        told.cluster.close()
        raise
    return OpenedSession(session, told.kernel)


class _Told(NamedTuple):
    """A recorded cluster at virtual time 0, and what is known of its future."""

    cluster: SimulationController
    witness: ClusterWitness
    branches: list[ForetoldBranch]
    marks: dict[str, Mark]
    deleted: list[str]
    """Names of branches that are gone."""
    kernel: str | None
    """The file that names addresses, if it is at hand."""
    about: About


def _read_recorded(path: str, images: Sequence[str], observers: Sequence[str]) -> _Told:
    from chaoscontrol.recording import foretold_branches, foretold_marks, load_recording, rebuild

    with load_recording(path) as recording:
        rebuilt = rebuild(recording, images=images, trusted_observers=observers)
        try:
            # Where it was found; an embedded one is gone once it is loaded.
            found = rebuilt.cluster.config.kernel_path
            kernel = str(found) if found is not None and os.path.exists(found) else None
            branches, marks = foretold_branches(recording), foretold_marks(recording)
            deleted = recording.deleted_names
            about = _about(recording)
        except BaseException:
            rebuilt.close()
            raise
    return _Told(rebuilt.cluster, rebuilt.witness, branches, marks, deleted, kernel, about)


def _about(recording: Recording) -> About:
    header, failures = recording.header, recording.failures
    recorded = tuple((branch.name, failure) for branch, failure in failures)

    def recipe() -> Recipe:
        from chaoscontrol.triage import recipe_of

        return recipe_of(header)

    return About(recipe, header.judge.observer, recording.path, recorded)


def describe(options: LaunchOptions) -> str:
    """The options as they would be given again."""
    from cc_tui.options import LaunchOptions

    default = LaunchOptions()
    words = ["cc-tui"]
    words += [f"--scenario {shlex.quote(options.scenario)}"] if options.scenario else []
    words += [f"--vms {options.vms}"] if options.vms != default.vms or "vms" in options.given else []
    words += [f"--seed {options.seed}"] if options.scenario is None or "seed" in options.given else []
    words += [f"--kernel {shlex.quote(options.kernel)}"] if options.kernel else []
    words += [f"--initrd {shlex.quote(options.initrd)}"] if options.initrd else []
    words += [f"--cmdline {shlex.quote(options.cmdline)}"] if options.cmdline != default.cmdline else []
    words += [f"--memory {options.memory_bytes >> 10}K"] if options.memory_bytes != default.memory_bytes else []
    words += [f"--quantum {options.quantum_ns}ns"] if options.quantum_ns != default.quantum_ns else []
    words += [f"--vcpu {options.vcpu}"] if options.vcpu != default.vcpu else []
    words += [f"--schedule {shlex.quote(options.schedule)}"] if options.schedule else []
    return " ".join(words)
