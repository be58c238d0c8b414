"""`cc-tui gdb`: opens a recording or a scenario, and serves one machine of it to gdb until gdb leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cc_tui.diagnostics import note
from cc_tui.gdb.machine import MachineTarget
from cc_tui.gdb.packets import PacketStream
from cc_tui.gdb.server import GdbServer, listen
from cc_tui.gdb.symbol_file import gdb_line
from cc_tui.opening import open_history
from chaoscontrol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cc_tui.options import LaunchOptions


def serve(
    what: str | LaunchOptions,
    *,
    vm: int,
    port: int,
    at: str | None,
    once: bool,
    images: Sequence[str] = (),
    observers: Sequence[str] = (),
) -> None:
    """Serve machine `vm`, from the place `at` on. `once`: end with the first connection. Raises ChaosControlError."""
    with open_history(what, images=images, observers=observers) as history:
        count = len(history.multiverse.machines)
        if not 0 <= vm < count:
            raise UsageError(f"there is no machine {vm}", hint=f"0 to {count - 1}")
        target = MachineTarget(history.multiverse, vm, history.quantum_ns)
        if at is not None:
            target.monitor(f"goto {at}")
        with listen(port) as listener:
            note(f"vm{vm} waits: {gdb_line(history.kernel, listener.getsockname()[1])}")
            while True:
                connection, _ = listener.accept()
                with connection:
                    server = GdbServer(target, PacketStream(connection))
                    server.serve()
                if once or server.killed:
                    return


__all__ = ["serve"]
