"""chaoscontrol: a deterministic cluster of Linux machines as a Python library.

    from chaoscontrol import DeterministicVm, image_path

    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        print(vm.run_until("hello from cc-tui guest"))

The names below are the public API. Modules are imported when a name of theirs is first used: a program that boots one
machine does not pay for clusters and time travel.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cluster import ClusterSnapshot, ClusterStop, SimulationConfig, SimulationController
    from .config import DEFAULT_CMDLINE, CpuConfig, VmConfig
    from .errors import AddressError, BudgetError, ChaosControlError, EngineError, GuestError, UsageError
    from .images import image_names, image_path
    from .in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId, PacketInFlight
    from .machine import DeterministicVm
    from .network import CapturedFrame, Fate, LinkCounters, LinkParams, Network
    from .pagestore import PageStore, Snapshot
    from .pcap import WireFrame, wire_frames, write_pcap
    from .registers import Registers, Segment
    from .symbols.elf import read_symbols
    from .symbols.table import Symbol, SymbolTable
    from .values import ConsoleMark, Digest, Stats, Stop, StopKind

__version__ = "0.1.0"

_HOMES = {
    "cluster": ("ClusterSnapshot", "ClusterStop", "SimulationConfig", "SimulationController"),
    "config": ("DEFAULT_CMDLINE", "CpuConfig", "VmConfig"),
    "errors": ("AddressError", "BudgetError", "ChaosControlError", "EngineError", "GuestError", "UsageError"),
    "images": ("image_names", "image_path"),
    "in_flight": ("ArriveAt", "CopyAt", "Drop", "Overwrite", "PacketId", "PacketInFlight"),
    "machine": ("DeterministicVm",),
    "network": ("CapturedFrame", "Fate", "LinkCounters", "LinkParams", "Network"),
    "pcap": ("WireFrame", "wire_frames", "write_pcap"),
    "pagestore": ("PageStore", "Snapshot"),
    "registers": ("Registers", "Segment"),
    "symbols.elf": ("read_symbols",),
    "symbols.table": ("Symbol", "SymbolTable"),
    "values": ("ConsoleMark", "Digest", "Stats", "Stop", "StopKind"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DEFAULT_CMDLINE",
    "AddressError",
    "ArriveAt",
    "BudgetError",
    "CapturedFrame",
    "ChaosControlError",
    "ClusterSnapshot",
    "ClusterStop",
    "ConsoleMark",
    "CopyAt",
    "CpuConfig",
    "DeterministicVm",
    "Digest",
    "Drop",
    "EngineError",
    "Fate",
    "GuestError",
    "LinkCounters",
    "LinkParams",
    "Network",
    "Overwrite",
    "PacketId",
    "PacketInFlight",
    "PageStore",
    "Registers",
    "Segment",
    "SimulationConfig",
    "SimulationController",
    "Snapshot",
    "Stats",
    "Stop",
    "StopKind",
    "Symbol",
    "SymbolTable",
    "UsageError",
    "VmConfig",
    "WireFrame",
    "image_names",
    "image_path",
    "read_symbols",
    "wire_frames",
    "write_pcap",
]


def __getattr__(name: str) -> object:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
