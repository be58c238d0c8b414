"""What can go wrong in time travel, besides what the engine itself raises."""

from chaoscontrol.errors import ChaosControlError, EngineError, GuestError, UsageError


class MomentError(UsageError):
    """A moment's text cannot be read, or two moments cannot be compared."""


class BranchError(UsageError):
    """No such branch, a name that is taken, or a name that cannot be used."""


class PastError(UsageError):
    """An input was given where the future is already written."""


class UnreachableError(GuestError):
    """The asked position does not exist: the machine stopped, or halted for good, before it."""


class DivergenceError(EngineError):
    """A replay did not reproduce what happened before.

    `machine` is the index of the first machine that differs, `part` names what of it: `instructions`, `registers`,
    `devices`, `page 0x...`, `disk page 0x...`, `memory`, `console` or `state`. Without a machine it is the cluster's
    `network` or `events`.
    """

    def __init__(self, machine: int | None, part: str, what: str, *, where: str) -> None:
        super().__init__(
            f"{'the cluster' if machine is None else f'machine {machine}'} differs in {part}: {what}",
            where=where,
            hint="the replay is not the run that was recorded; please keep the session's script and report it",
        )
        self.machine = machine
        self.part = part


class CancelledError(ChaosControlError):
    """Somebody asked to stop; the cursor stands at a valid position."""
