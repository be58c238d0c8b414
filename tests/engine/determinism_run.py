"""One run of the determinism test, as a process: boots Linux on several machines and prints their digests as JSON.

What is run is fixed: the included images, a seed, an input typed at a fixed virtual time, five virtual seconds after
the prompt. The options change only what must not matter.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

from chaoscontrol import DeterministicVm, SimulationConfig, SimulationController, StopKind, VmConfig, image_path

DIGEST_EVERY_INSNS = 10_000_000
TYPE_AT_NS = 1_000_000_000
TYPED = "spin 5\rps\rcat /proc/interrupts\r"
AFTER_PROMPT_NS = 5_000_000_000
PROMPT = "guest> "
TICKS_AT_END = 2_000


def advance(vm: DeterministicVm, instret: int | None, vns: int | None, keyframe_insns: int, rewind: bool) -> None:
    """Runs to the first of two limits; keyframes and rewinding on the way leave no trace."""
    while True:
        end = vm.instret + keyframe_insns
        stop = vm.run(instret=end if instret is None else min(instret, end), vns=vns)
        if stop.kind is not StopKind.INSTRET or stop.instret == instret:
            return
        if keyframe_insns < DIGEST_EVERY_INSNS:
            keyframe = vm.snapshot()
            if rewind:
                vm.run(instret=stop.instret + keyframe_insns // 3)
                vm.restore(keyframe)
            keyframe.close()


def digests(vm: DeterministicVm, keyframe_insns: int, rewind: bool) -> list[str]:
    """The digest at every 10 million instructions, and at the end."""
    found: list[str] = []

    def to_vns(vns: int) -> None:
        while vm.vns < vns:
            milestone = (vm.instret // DIGEST_EVERY_INSNS + 1) * DIGEST_EVERY_INSNS
            advance(vm, milestone, vns, keyframe_insns, rewind)
            if vm.instret == milestone:
                found.append(f"{vm.instret} {vm.digest()}")

    to_vns(TYPE_AT_NS)
    assert PROMPT in vm.take_serial_output(), "the guest did not reach its prompt"
    assert vm.console_input(TYPED) == len(TYPED)
    to_vns(TYPE_AT_NS + AFTER_PROMPT_NS)
    found.append(f"{vm.instret} {vm.digest()} {vm.vns}")
    found.append(vm.take_serial_output())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vms", type=int, default=2)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keyframe-insns", type=int, default=DIGEST_EVERY_INSNS)
    parser.add_argument("--rewind", action="store_true")
    parser.add_argument("--tlb-bits", type=int)
    parser.add_argument("--code-cache-kib", type=int)
    options = parser.parse_args()
    config = SimulationConfig(
        num_vms=options.vms,
        vm_config=VmConfig(tlb_bits=options.tlb_bits, code_cache_kib=options.code_cache_kib),
        kernel_path=image_path("vmlinux"),
        initrd_path=image_path("hello"),
        seed=options.seed,
        threads=options.threads,
    )
    with SimulationController(config) as cluster, ThreadPoolExecutor(options.threads) as pool:
        runs = [pool.submit(digests, vm, options.keyframe_insns, options.rewind) for vm in cluster.vms]
        found = [run.result() for run in runs]
        cluster.run_to_vns(max(vm.vns for vm in cluster.vms))
        cluster.run(TICKS_AT_END)
        print(json.dumps({"machines": found, "cluster": str(cluster.digest())}))


if __name__ == "__main__":
    main()
