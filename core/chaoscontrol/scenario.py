"""Scenarios: a system under test as a TOML file: its machines, how it becomes ready, what must hold, what may break.

    name, about
    [machines]    count, memory_mib, kernel, initrd, cmdline, seed
    [disk]        image, size_mib
    [network]     enabled, latency_us
    [setup]       wait_for ("setup_complete", or console = "text"), timeout_ms
    [phases]      chaos_ms, settle_ms
    [properties]  observer = "module:Class", kernel, progress_ms
    [console]     never, sometimes: lists of regular expressions
    [faults]      what a search may inject: network, process, clock, cpu, memory, disk; or every kind by name;
                  signal_process: a list of the processes' names
    [variants]    name = "words for the command line"
    [[fault]]     a fixed schedule (faults/schedule.py), with origin

Reading one checks everything that can be checked without running it; every mistake is one line that names the field.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from .errors import UsageError
from .faults import FAULTS, Fault, FaultSchedule
from .faults.types import is_process_name, shown
from .images import image_names, image_path, images_dir
from .oracle import ConsoleNever, ConsoleSometimes, EventObserver, HostProperty, NoGuestEnds, Observed, Progress
from .oracle import kernel_properties as _kernel_properties
from .texts import compile_pattern, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
MIB = 1 << 20

GROUPS: dict[str, tuple[str, ...]] = {
    "network": (
        "network_partition", "one_way_partition", "network_latency", "network_jitter", "network_bandwidth",
        "packet_loss", "packet_reorder", "packet_duplicate",
    ),
    "process": ("process_kill", "process_pause", "process_restart"),
    "clock": ("clock_skew", "clock_jump"),
    "cpu": ("cpu_slowdown", "timer_jitter"),
    "memory": ("memory_pressure",),
    "disk": ("disk_torn_write", "slow_disk", "disk_latency_spike", "disk_read_error", "disk_write_error"),
    "interrupts": ("inject_interrupt", "inject_nmi"),
}  # fmt: skip
"""Kinds of faults by the words of [faults]. Packet corruption (TCP's checksum is weak), disk corruption, full disks and
lost flushes break what most systems build on, so they are chosen by name only."""

_DISK_WORDS = {
    "torn_write": "disk_torn_write",
    "slow": "slow_disk",
    "latency_spike": "disk_latency_spike",
    "read_error": "disk_read_error",
    "write_error": "disk_write_error",
    "corruption": "disk_corruption",
    "full": "disk_full",
    "lost_flush": "lost_flush",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A system under test."""

    name: str
    about: str = ""
    count: int = 1
    memory_bytes: int = 256 * MIB
    kernel: str = "vmlinux"
    initrd: str | None = None
    cmdline: str = ""
    """Added to the default command line."""
    seed: int = 0
    quantum_ns: int = 100_000
    """The length of a tick."""
    disk_image: str | None = None
    """An image's name or a file, copied into every machine's disk."""
    disk_bytes: int = 0
    network: bool = False
    latency_ns: int | None = None
    """Of every link; None: the network's default."""
    wait_for_setup: bool = True
    wait_for_console: str | None = None
    setup_timeout_ns: int = 30_000 * MS
    chaos_ns: int = 10_000 * MS
    settle_ns: int = 0
    observer: str | None = None
    kernel_properties: bool = True
    guests_may_end: bool = False
    progress_ns: int | None = None
    console_never: tuple[str, ...] = ()
    console_sometimes: tuple[str, ...] = ()
    faults: tuple[type[Fault], ...] = ()
    """What a search may inject, in the order of faults.FAULTS."""
    processes: tuple[str, ...] = ()
    """Names of the processes that it may send signals to, if SignalProcess is one of them."""
    variants: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    variant: str | None = None
    schedule: FaultSchedule = dataclasses.field(default_factory=FaultSchedule)

    def with_variant(self, name: str) -> Scenario:
        """The scenario with a variant's words at the end of the command line, where they override earlier ones."""
        if name not in self.variants:
            known = ", ".join(self.variants) or "none here"
            raise UsageError(f"scenario {self.name} has no variant {name!r}", hint=f"variants are: {known}")
        return dataclasses.replace(self, cmdline=f"{self.cmdline} {self.variants[name]}".strip(), variant=name)

    def properties(self) -> list[HostProperty]:
        """New host properties for one run."""
        found: list[HostProperty] = []
        if self.kernel_properties:
            found += _kernel_properties()
        if not self.guests_may_end:
            found.append(NoGuestEnds())
        found += [ConsoleNever(pattern) for pattern in self.console_never]
        found += [ConsoleSometimes(pattern) for pattern in self.console_sometimes]
        if self.progress_ns is not None:
            found.append(Progress(self.progress_ns))
        if self.observer is not None:
            found.append(load_observer(self.observer))
        return found


def load_observer(name: str) -> Observed:
    """An observer from "module:Class". Its module may list names of properties in ALWAYS and EVENTUALLY."""
    module_name, _, class_name = name.partition(":")
    try:
        return observed(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError, TypeError) as e:
        raise UsageError(
            f"the observer {name!r} cannot be loaded: {e}", hint='give "module:Class", importable from here'
        ) from None


def observed(module: ModuleType, class_name: str) -> Observed:
    """What a new observer of that class watches. Raises AttributeError, and what the class raises."""
    observer = cast("EventObserver", getattr(module, class_name)())
    return Observed(observer, getattr(module, "ALWAYS", ()), getattr(module, "EVENTUALLY", ()))


def load_describer(observer: str) -> Callable[[bytes], str] | None:
    """What the observer's module has as `describe_message`: says what the data of a frame mean, whatever they are."""
    try:
        return getattr(importlib.import_module(observer.partition(":")[0]), "describe_message", None)
    except ImportError:
        return None


def scenarios_dir() -> str:
    """Where the scenarios that come with cc-tui are."""
    return os.path.join(os.path.dirname(images_dir()), "scenarios")


def scenario_names() -> list[str]:
    """The names that load_scenario() knows without a path."""
    try:
        files = os.listdir(scenarios_dir())
    except OSError:
        return []
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def names_file(name: str) -> bool:
    """Whether load_scenario() takes it for a file, perhaps with a variant."""
    return name.endswith(".toml") or ".toml/" in name


def load_scenario(name: str | os.PathLike[str]) -> Scenario:
    """Reads a scenario by its name or file; "raft/double_vote" and "my.toml/fixed" are variants. Raises UsageError."""
    text = os.fspath(name)
    if text.endswith(".toml"):
        return read_scenario(text)
    file, in_file, variant = text.rpartition(".toml/")
    if in_file:
        return read_scenario(f"{file}.toml").with_variant(variant)
    base, _, variant = text.partition("/")
    if base not in scenario_names():
        known = ", ".join(scenario_names())
        raise UsageError(f"there is no scenario {text!r}", hint=f"give a .toml file, or one of: {known}")
    scenario = read_scenario(os.path.join(scenarios_dir(), base + ".toml"))
    return scenario.with_variant(variant) if variant else scenario


def read_scenario(path: str) -> Scenario:
    """Reads a scenario file. Raises UsageError."""
    try:
        table = read_toml(Path(path).read_bytes())
    except OSError as e:
        raise UsageError(e.strerror or str(e), where=path, hint="give a scenario file") from None
    except ValueError as e:
        raise UsageError(str(e), where=path) from None
    return parse_scenario(table, where=path)


def parse_scenario(table: dict[str, Any], *, where: str = "scenario") -> Scenario:
    """Checks what tomllib made of a scenario file. Raises UsageError naming the field and what is allowed."""
    top = _Table(table, where, "")
    values: dict[str, Any] = {"name": top.text("name", required=True), "about": top.text("about")}

    machines = top.table("machines")
    values |= {
        "count": machines.number("count", 1, 256, 1),
        "memory_bytes": machines.number("memory_mib", 1, 3072, 256) * MIB,
        "kernel": machines.image("kernel") or "vmlinux",
        "initrd": machines.image("initrd"),
        "cmdline": machines.text("cmdline"),
        "seed": machines.number("seed", 0, (1 << 64) - 1, 0),
    }
    machines.done()

    disk = top.table("disk")
    values |= {
        "disk_image": disk.image("image"),
        "disk_bytes": disk.number("size_mib", 1, 65536, 32) * MIB if disk.given else 0,
    }
    disk.done()

    network = top.table("network")
    latency = network.number("latency_us", 0, 10**9, None)
    values |= {
        "network": network.flag("enabled", network.given),
        "latency_ns": None if latency is None else latency * 1000,
    }
    network.done()

    setup = top.table("setup")
    console = setup.text("console") or None
    wait_for = setup.text("wait_for") or ("console" if console else "setup_complete")
    if wait_for not in ("setup_complete", "console", "nothing") or (wait_for == "console") != (console is not None):
        setup.fail("wait_for", wait_for, 'setup_complete, nothing, or "console" with console = "text"')
    values |= {
        "wait_for_setup": wait_for == "setup_complete",
        "wait_for_console": console,
        "setup_timeout_ns": setup.number("timeout_ms", 1, 10**9, 30_000) * MS,
    }
    setup.done()

    phases = top.table("phases")
    values |= {
        "chaos_ns": phases.number("chaos_ms", 1, 10**9, 10_000) * MS,
        "settle_ns": phases.number("settle_ms", 0, 10**9, 0) * MS,
    }
    phases.done()

    properties = top.table("properties")
    progress = properties.number("progress_ms", 1, 10**9, None)
    values |= {
        "observer": properties.text("observer") or None,
        "kernel_properties": properties.flag("kernel", True),
        "guests_may_end": properties.flag("guests_may_end", False),
        "progress_ns": None if progress is None else progress * MS,
    }
    properties.done()

    consoles = top.table("console")
    values |= {
        "console_never": consoles.patterns("never"),
        "console_sometimes": consoles.patterns("sometimes"),
    }
    consoles.done()

    faults = top.table("faults")
    values |= {
        "processes": faults.names("signal_process"),
        "faults": _faults(faults),
        "variants": _variants(top.table("variants")),
    }
    fixed = {key: table[key] for key in ("origin", "fault") if key in table}
    schedule = FaultSchedule.from_table(fixed, where=where)
    schedule.check(values["count"])
    top.known("origin", "fault")
    top.done()
    return Scenario(**values, schedule=schedule)


def _faults(table: _Table) -> tuple[type[Fault], ...]:
    chosen: set[str] = set()
    for word in list(table.values):
        value = table.take(word)
        if word == "disk" and _is_list(value):
            names = [_DISK_WORDS.get(str(item), str(item)) for item in value]
            for name, item in zip(names, value, strict=True):
                if name not in FAULTS:
                    table.fail(word, item, ", ".join(_DISK_WORDS))
            chosen.update(names)
        elif word == "signal_process":
            chosen.update([word] if value else ())
        elif word in GROUPS and isinstance(value, bool):
            chosen.update(GROUPS[word] if value else ())
        elif word in FAULTS and isinstance(value, bool):
            (chosen.add if value else chosen.discard)(word)
        elif word in GROUPS or word in FAULTS:
            table.fail(word, value, "true or false")
        else:
            raise UsageError(
                f"[faults] has no field {word!r}", where=table.where, hint=f"use {', '.join(GROUPS)}, or a fault's name"
            )
    return tuple(cls for name, cls in FAULTS.items() if name in chosen)


def _variants(table: _Table) -> dict[str, str]:
    return {name: table.text(name) for name in list(table.values)}


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


class _Table:
    """One table of the file; remembers which of its fields were asked for."""

    def __init__(self, values: dict[str, Any], where: str, name: str, *, given: bool = True) -> None:
        self.values = values
        self.where = where
        self.given = given
        self._name = f"[{name}] " if name else ""
        self._known: list[str] = []

    def fail(self, field: str, value: object, allowed: str) -> None:
        raise UsageError(f"{self._name}{field} cannot be {shown(value)}", where=self.where, hint=f"give {allowed}")

    def take(self, field: str) -> Any:
        self._known.append(field)
        return self.values.get(field)

    def known(self, *fields: str) -> None:
        self._known += fields

    def done(self) -> None:
        """Raises UsageError for a field that nobody asked for."""
        for field in self.values:
            if field not in self._known:
                hint = f"the fields are {', '.join(self._known)}"
                raise UsageError(f"{self._name}there is no field {field!r}", where=self.where, hint=hint)

    def table(self, field: str) -> _Table:
        value = self.take(field)
        if value is not None and not isinstance(value, dict):
            self.fail(field, value, f"a table, [{field}]")
        return _Table(cast("dict[str, Any]", value or {}), self.where, field, given=value is not None)

    def text(self, field: str, *, required: bool = False) -> str:
        value = self.take(field)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value) or not value.isprintable():
            self.fail(field, value, "a text of printable characters")
        return cast("str", value)

    def number(self, field: str, low: int, high: int, default: Any) -> Any:
        value = self.take(field)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(field, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.take(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(field, value, "true or false")
        return bool(value)

    def patterns(self, field: str) -> tuple[str, ...]:
        for item in (found := self._list(field, "regular expressions")):
            if not isinstance(item, str):
                self.fail(field, item, "texts, each a regular expression")
            try:
                compile_pattern(cast("str", item))
            except ValueError as e:
                self.fail(field, item, f"a regular expression ({e})")
        return cast("tuple[str, ...]", found)

    def names(self, field: str) -> tuple[str, ...]:
        for item in (found := self._list(field, 'processes\' names, as ["sshd"]')):
            if not is_process_name(item):
                self.fail(field, item, "a process's name")
        return cast("tuple[str, ...]", found)

    def _list(self, field: str, of: str) -> tuple[object, ...]:
        value = self.take(field)
        if value is not None and not _is_list(value):
            self.fail(field, value, f"a list of {of}")
        return tuple(cast("list[object]", value or ()))

    def image(self, field: str) -> str | None:
        """An image's name, or a file beside the scenario."""
        name = self.text(field)
        if not name or name in image_names():
            return name or None
        beside = os.path.join(os.path.dirname(self.where), name)
        if os.path.isfile(beside):
            return beside
        try:
            image_path(name)
        except UsageError as e:
            raise UsageError(f"{self._name}{field}: {e.what}", where=self.where, hint=e.hint) from None
        return name
