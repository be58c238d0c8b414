"""Every field that changes is in snapshots, or it is listed here with the reason why the future does not depend on it.

A new field of these objects and structures fails this test until somebody has decided which of the two it is.
tests/guests/test_snapshots_of_clusters.py looks at what really comes back.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaoscontrol import SimulationConfig, SimulationController, VmConfig
from chaoscontrol.events import EventReader
from chaoscontrol.oracle import Check, ConsoleNever, NoGuestEnds, Progress, PropertyOracle
from chaoscontrol.trial import Trial

NATIVE = Path(__file__).resolve().parents[2] / "native"

FIXED = "never changes after it was made"
KEPT = "in snapshots"
CLEARED = "emptied or recomputed by a restore"
HOST = "of the host: the guests, their faults and what is judged do not depend on it"
BUFFER = "written before each use"

PYTHON: dict[str, dict[str, str]] = {
    "SimulationController": {
        "config": FIXED, "store": HOST, "vms": KEPT, "network": KEPT, "_native": KEPT, "_faults": KEPT,
        "_fault_target": KEPT, "_stops": CLEARED, "_cancelled": HOST, "_until": BUFFER, "_stop": BUFFER,
        "_boot_files": FIXED, "_boots": "made from the configuration, or by set_boot() before anything runs",
    },
    "FaultEngine": {"_num_vms": FIXED, "_state": KEPT, "_log": CLEARED},
    "ClusterFaults": {"_cluster": FIXED, "state": KEPT, "failed": CLEARED},
    "Network": {"_native": FIXED, "_num_vms": FIXED, "normal": FIXED, "_taps": HOST, "_own": HOST},
    "DeterministicVm": {
        "config": FIXED, "store": HOST, "_native": KEPT, "_running": HOST, "_cancel_asked": HOST, "_until": BUFFER,
        "_stop": BUFFER, "_digest": BUFFER, "_loaded": "refuses a second kernel, nothing else",
        "_decoder": "of take_serial_output(), for eyes; events are made of bytes",
    },
    "EventReader": {"_cluster": FIXED, "_reports": KEPT, "_lines": KEPT},
    "ReportReader": {"_cluster": FIXED, "_down": KEPT, "_ends": KEPT, "lost": KEPT},
    "ConsoleLines": {"_vm": FIXED, "_rest": KEPT, "_began": KEPT},
    "PropertyOracle": {"_guest": KEPT, "_host": KEPT},
    "GuestProperties": {"_announced": KEPT, "_details": KEPT},
}  # fmt: skip

C: dict[tuple[str, str], dict[str, str]] = {
    ("cluster.h", "cc_cluster"): {
        "n": FIXED, "threads": HOST, "vns": KEPT, "quantum": FIXED, "cancel": HOST, "fabric": KEPT, "node": KEPT,
        "machines": KEPT, "due": BUFFER, "pool": HOST, "capture": HOST, "error": HOST,
    },
    ("cluster.h", "cc_node"): {
        "m": KEPT, "wake": BUFFER, "last_insns": "says whether a thread is worth waking", "stop": HOST, "hit": BUFFER,
        "rc": BUFFER, "cancelled": BUFFER,
    },
    ("machine.h", "cc_machine"): {
        "cfg": FIXED, "ops": FIXED, "vcpu": KEPT, "ram": KEPT, "aux": FIXED, "npages": FIXED, "page_flags": HOST,
        "dirty_snap": HOST, "dirty_digest": HOST, "instret": KEPT, "instret_base": KEPT, "vns_base": KEPT,
        "kick": CLEARED, "stop_kind": CLEARED, "stop_detail": CLEARED, "stop_at": BUFFER, "exits_max": BUFFER,
        "cancel": HOST, "dev": KEPT, "stats": KEPT, "console": HOST, "log": HOST, "events": HOST, "watches": HOST,
        "store": HOST, "pagemap": HOST, "error": HOST,
    },
}  # fmt: skip
"""(file, structure): the fabric and cc_devstate are plain data that a snapshot copies whole, new fields too."""


def objects() -> dict[str, object]:
    cluster = SimulationController(SimulationConfig(num_vms=1, vm_config=VmConfig(memory_bytes=8 << 20)))
    reader, oracle = EventReader(cluster), PropertyOracle()
    found = (
        cluster, cluster.faults, cluster._fault_target, cluster.network, cluster.vms[0], reader, reader._reports,
        reader._lines[0], oracle, oracle._guest,
    )  # fmt: skip
    return {type(each).__name__: each for each in found}


def fields_of(source: str, name: str) -> set[str]:
    """The members of a structure in C; names are what stands before a comma, a bracket or a semicolon."""
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", source, re.MULTILINE | re.DOTALL)
    assert body is not None, f"there is no struct {name}"
    code = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    return set(re.findall(r"(\w+)(?:\[\w+\])*\s*[,;]", code))


def test_every_field_of_python_is_in_snapshots_or_explained() -> None:
    found = {name: set(vars(each)) for name, each in objects().items()}
    assert found == {name: set(fields) for name, fields in PYTHON.items()}


@pytest.mark.parametrize(("file", "name"), C)
def test_every_field_of_c_is_in_snapshots_or_explained(file: str, name: str) -> None:
    assert fields_of((NATIVE / file).read_text(encoding="utf-8"), name) == set(C[file, name])


def test_a_copy_of_an_oracle_shares_nothing_that_changes() -> None:
    def check(event: object, memory: dict[str, object]) -> bool | None:
        memory["seen"] = event
        return None

    made = [ConsoleNever("x"), NoGuestEnds(), Progress(1_000), Check("check", check)]
    oracle = PropertyOracle(made)
    copied = oracle.copy()
    for mine, other in zip(oracle._host, copied._host, strict=True):
        assert mine is not other
        shared = {name for name, value in vars(mine).items() if value is vars(other)[name] and type(value) is dict}
        assert shared == set()
    oracle.feed([], 5_000)
    assert oracle.host_failed
    assert not copied.host_failed


def test_a_trial_adds_nothing_that_its_snapshots_leave_out() -> None:
    """A TrialState has the cluster, the oracle and the reader; the rest of a Trial is given by whoever made it."""
    source = Path(str(Trial.__init__.__code__.co_filename)).read_text(encoding="utf-8")
    (body,) = re.findall(r"^class Trial:(.*?)^def ", source, re.MULTILINE | re.DOTALL)
    fields = set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", body))
    assert fields == {"scenario", "seed", "cluster", "_oracle", "_reader", "on_events"}
