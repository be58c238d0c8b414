"""Verify: is a cluster what it was? Compares it with what is known of a position, and names the part that differs."""

from collections.abc import Sequence

from chaoscontrol.timetravel.cluster_api import Cluster
from chaoscontrol.timetravel.errors import DivergenceError
from chaoscontrol.timetravel.keyframes import Keyframe, Parts
from chaoscontrol.timetravel.moment import MachineMark, Moment, format_seconds

PAGE_BYTES = 4096


def parts_of(cluster: Cluster) -> tuple[Parts, ...]:
    """The digests of every machine, whole and of its parts."""
    return tuple(Parts(str(vm.digest()), str(vm.cpu_digest()), str(vm.device_digest())) for vm in cluster.vms)


def compare_with_keyframe(cluster: Cluster, keyframe: Keyframe, branch: str) -> None:
    """Raise DivergenceError unless the cluster is as at the keyframe.

    To name a page that differs, the cluster is brought to the keyframe's snapshot.
    """
    where = f"{branch}@{format_seconds(keyframe.position.vns)}"
    for machine, (vm, expected) in enumerate(zip(cluster.vms, keyframe.parts, strict=True)):
        if vm.instret != keyframe.instrets[machine]:
            what = f"{vm.instret} retired, {keyframe.instrets[machine]} before"
            raise DivergenceError(machine, "instructions", what, where=where)
        if str(vm.digest()) != expected.whole:
            raise _name_part(cluster, machine, keyframe, where)
    network = str(cluster.network_digest())
    if keyframe.network and network != keyframe.network:
        raise DivergenceError(None, "network", _digests(network, keyframe.network), where=where)


def _name_part(cluster: Cluster, machine: int, keyframe: Keyframe, where: str) -> DivergenceError:
    vm, expected = cluster.vms[machine], keyframe.parts[machine]
    for part, now, before in (
        ("registers", str(vm.cpu_digest()), expected.cpu),
        ("devices", str(vm.device_digest()), expected.devices),
    ):
        if now != before:
            return DivergenceError(machine, part, _digests(now, before), where=where)
    if keyframe.snapshot is None:
        return DivergenceError(machine, "state", "its memory is not what it was", where=where)
    pages = range(vm.config.memory_bytes // PAGE_BYTES)
    now_pages = [str(vm.page_digest(page)) for page in pages]
    cluster.restore_all(keyframe.snapshot)
    for page in pages:
        before = str(vm.page_digest(page))
        if now_pages[page] != before:
            return DivergenceError(machine, f"page {page:#x}", _digests(now_pages[page], before), where=where)
    return DivergenceError(machine, "state", "no page, register or device differs", where=where)


def _digests(now: str, before: str) -> str:
    return f"digest {now[:16]}, {before[:16]} before"


def compare_with_moment(marks: Sequence[MachineMark], moment: Moment) -> None:
    """Raise DivergenceError unless the machines are as `moment` says."""
    for machine, (now, expected) in enumerate(zip(marks, moment.machines, strict=True)):
        if now.instret != expected.instret:
            what = f"{now.instret} retired here, {expected.instret} in the moment"
            raise DivergenceError(machine, "instructions", what, where=moment.brief)
        if now.digest != expected.digest:
            what = f"digest {now.digest} here, {expected.digest} in the moment"
            raise DivergenceError(machine, "state", what, where=moment.brief)


__all__ = ["compare_with_keyframe", "compare_with_moment", "parts_of"]
