"""The head of a branch: who holds it may give inputs. By type, not by a flag: the past has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.timetravel.errors import PastError
from chaoscontrol.timetravel.inputs import Input, machine_of

if TYPE_CHECKING:
    from chaoscontrol.timetravel.branch import BranchRecord, GivenInput
    from chaoscontrol.timetravel.driver import Driver
    from chaoscontrol.timetravel.multiverse import Multiverse


class BranchHead:
    """The right to give inputs: the end of a branch, while the cursor is there.

    Got from `Multiverse.head()` or `Multiverse.fork()`; it expires when the cursor moves back or elsewhere.
    """

    def __init__(self, multiverse: Multiverse, record: BranchRecord, driver: Driver) -> None:
        self._multiverse = multiverse
        self._record = record
        self._driver = driver

    @property
    def branch(self) -> str:
        """Name of the branch."""
        return self._record.name

    def give(self, given: Input) -> GivenInput | None:
        """Apply an input now and write it into the branch; None if the machine's queue was full.

        Less than was given may have been taken: the result says what. Raises PastError if the handle has expired.
        """
        if self._record.deleted:
            raise PastError(f"branch {self._record.name!r} was deleted", hint="fork another one")
        if self._driver.record is not self._record or not self._multiverse.at_end:
            raise PastError(
                f"{self._record.name} is not at its end any more", hint="fork, or go back to the end of the branch"
            )
        machine = machine_of(given)
        if machine is not None and not 0 <= machine < len(self._driver.machines):
            raise PastError(f"there is no machine {machine}", hint=f"0 to {len(self._driver.machines) - 1}")
        taken = self._driver.give(given)
        if taken is not None:
            self._record.inputs.append(taken)
            self._record.end = self._driver.position
            self._driver.observer.input_given(self._record.name, taken)
        return taken


__all__ = ["BranchHead"]
