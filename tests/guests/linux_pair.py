"""Two Linux machines at their shells, with disks, a network and the guest agent: what faults are shown on.

Booted once; every test goes back to that moment. Commands are typed at the serial console, as a person would.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoscontrol import DEFAULT_CMDLINE, SimulationConfig, SimulationController, StopKind, VmConfig, image_path
from chaoscontrol.cluster import ClusterSnapshot
from chaoscontrol.faults import Fault, FaultScheduleBuilder

MIB = 1 << 20
MS = 1_000_000
SECOND = 1_000_000_000
PROMPT = "/ # "
LEAD_NS = MS
"""How long after being set a schedule's first fault begins."""


@dataclass
class LinuxPair:
    """Machine 0 is 10.0.0.1, machine 1 is 10.0.0.2; both have an ext4 disk on /data."""

    cluster: SimulationController
    booted: ClusterSnapshot = field(init=False)
    heard: list[str] = field(default_factory=lambda: ["", ""])
    """What each has printed that nobody has looked at."""
    scheduled: set[type[Fault]] = field(default_factory=lambda: set[type[Fault]]())
    """The kinds of faults that a schedule has named."""

    @classmethod
    def boot(cls, seed: int = 5) -> LinuxPair:
        """Boots both, to prompts, with agents that listen."""
        vm = VmConfig(memory_bytes=64 * MIB, network=True, disk_bytes=32 * MIB, cmdline=f"{DEFAULT_CMDLINE} quiet")
        config = SimulationConfig(
            num_vms=2,
            vm_config=vm,
            kernel_path=image_path("vmlinux"),
            initrd_path=image_path("tools"),
            disk_path=image_path("disk"),
            seed=seed,
            threads=1,
        )
        pair = cls(SimulationController(config))
        for i in (0, 1):
            pair.until(i, PROMPT, 5 * SECOND)
        pair.go(300 * MS)
        for i in (0, 1):
            pair.sh(i, "dmesg -n 1")  # what the kernel says is read with dmesg
        pair.sh(0, "ping -c 1 10.0.0.2 >/dev/null")  # they know each other's addresses
        pair.booted = pair.cluster.snapshot_all()
        return pair

    def reset(self) -> LinuxPair:
        """Back to the moment after booting."""
        self.cluster.restore_all(self.booted)
        for vm in self.cluster.vms:
            vm.take_serial_output()
        self.heard = ["", ""]
        self.cluster.take_fault_log()
        return self

    # ---- running ----

    @property
    def vns(self) -> int:
        return self.cluster.vns

    def go(self, ns: int) -> None:
        """Lets that much time pass."""
        self.cluster.run_to_vns(self.vns + ns)

    def go_to(self, vns: int) -> None:
        """Runs to a virtual time that is not past yet."""
        self.cluster.run_to_vns(max(vns, self.vns))

    def until(self, vm: int, text: str, limit_ns: int = 60 * SECOND) -> str:
        """Runs until machine vm has printed the text, if it has not; returns what it printed up to there."""
        self.listen(vm)
        if text not in self.heard[vm]:
            stop = self.cluster.run_until(self.vns + limit_ns, machine=vm, console=text)
            said = self.listen(vm)
            assert stop.kind is StopKind.CONSOLE, f"machine {vm} never said {text!r} ({stop}): {said[-2000:]}"
        before, self.heard[vm] = self.heard[vm].split(text, 1)
        return before + text

    def listen(self, vm: int) -> str:
        """What machine vm has printed and nobody has looked at; it stays to be looked at."""
        self.heard[vm] += self.cluster.vms[vm].take_serial_output()
        return self.heard[vm]

    def type(self, vm: int, line: str) -> None:
        """Types a line."""
        raw = line.encode() + b"\r"
        assert self.cluster.vms[vm].console_input(raw) == len(raw)

    def sh(self, vm: int, command: str, limit_ns: int = 60 * SECOND) -> str:
        """What a command prints, once the shell has its prompt again."""
        self.type(vm, f"echo be''gin; {command}; echo do''ne")
        text = self.until(vm, "done\r\n", limit_ns)
        self.until(vm, PROMPT, limit_ns)
        return text.split("begin\r\n", 1)[1].removesuffix("done\r\n").replace("\r\n", "\n").strip()

    def begin(self, vm: int, command: str) -> None:
        """Starts a command without waiting for it; finish() does."""
        self.type(vm, f"echo be''gin; {command}; echo do''ne")
        self.until(vm, "begin\r\n")

    def finish(self, vm: int, limit_ns: int = 60 * SECOND) -> str:
        """What the begun command prints from here to its end."""
        text = self.until(vm, "done\r\n", limit_ns)
        self.until(vm, PROMPT, limit_ns)
        return text.removesuffix("done\r\n").replace("\r\n", "\n").strip()

    def reboot_seen(self, vm: int) -> None:
        """Waits until a machine that boots again is at its prompt and its agent listens."""
        self.until(vm, PROMPT, 5 * SECOND)
        self.go(300 * MS)

    # ---- faults ----

    def schedule(self, *faults: tuple[int, Fault, int | None]) -> None:
        """(start after now, fault, duration or None), as one schedule."""
        builder = FaultScheduleBuilder("branch")
        for at_ns, fault, duration_ns in faults:
            builder.at_ns(at_ns, fault, duration_ns=duration_ns)
            self.scheduled.add(type(fault))
        self.cluster.set_schedule(builder.build())

    def during(self, *faults: Fault, duration_ns: int) -> int:
        """Schedules the faults for a time, and goes to where they are in effect; returns when they end."""
        self.schedule(*((LEAD_NS, fault, duration_ns) for fault in faults))
        end_ns = self.vns + LEAD_NS + duration_ns
        self.go(2 * LEAD_NS)
        assert list(self.cluster.faults.active) == list(faults)
        return end_ns

    def over(self, end_ns: int) -> None:
        """Goes to where the faults have ended by themselves."""
        assert self.vns < end_ns, "what was looked at during the fault took longer than the fault"
        self.go_to(end_ns + LEAD_NS)
        assert not self.cluster.faults.active
        assert self.cluster.take_failed_faults() == []
