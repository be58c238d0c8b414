"""The raft image in a machine: one node alone elects itself, persists, serves its client, and says so by the SDK."""

from __future__ import annotations

from pathlib import Path

from chaoscontrol import DeterministicVm, VmConfig, image_path
from chaoscontrol.config import DEFAULT_CMDLINE
from chaoscontrol.scenario import load_observer, load_scenario

ROOT = Path(__file__).resolve().parents[2]
SECOND_NS = 1_000_000_000
ALONE = "cc.node=0 cc.nodes=1 raft.local_port=7000"


def boot(*words: str) -> DeterministicVm:
    cmdline = " ".join([DEFAULT_CMDLINE, ALONE, *words])
    vm = DeterministicVm(VmConfig(memory_bytes=64 << 20, seed=3, disk_bytes=32 << 20, cmdline=cmdline))
    vm.load_kernel(image_path("vmlinux"), image_path("raft"))
    return vm


def test_one_node_serves() -> None:
    with boot() as vm:
        vm.run_until("raft: node 0: leader of term 1", max_vns=5 * SECOND_NS)
        began_vns, began_instret = vm.vns, vm.instret
        vm.run(vns=began_vns + 5 * SECOND_NS)
        events, dropped = vm.take_raw_events()
        assert dropped == 0
        commits = [event for event in events if b"raft_commit{" in event.payload]
        assert len(commits) >= 5, "some 75 operations in five virtual seconds, 70 % of them writes"
        assert len(events) <= 10 * len(commits), "hypercalls are few"
        assert vm.setup_vns is not None and vm.setup_vns > began_vns - SECOND_NS
        assert vm.coverage_active
        properties = {counts.message: counts for counts in vm.properties()}
        assert "raft: a read sees every write acknowledged before it began" in properties
        assert not any(counts.fails for counts in properties.values())
        # Idle most of the time: it sleeps in epoll_wait.
        assert vm.instret - began_instret < 5 * SECOND_NS // 20
        assert vm.take_serial_output().count("raft: node 0:") <= 2, "the console is not for every operation"


def test_same_seed_same_run() -> None:
    digests = set()
    for _ in range(2):
        with boot("raft.op_ms=5") as vm:
            vm.run(vns=SECOND_NS)
            digests.add(str(vm.digest()))
    assert len(digests) == 1


def test_the_scenario_is_sound() -> None:
    scenario = load_scenario(ROOT / "guest" / "scenarios" / "raft.toml")
    assert scenario.count == 3
    assert scenario.observer is not None
    load_observer(scenario.observer)
    core = (ROOT / "guest" / "programs" / "raft" / "raft_core.c").read_text()
    assert len(scenario.variants) == 7
    assert all(f'"{bug}"' in core and words == f"raft.bug={bug}" for bug, words in scenario.variants.items())
