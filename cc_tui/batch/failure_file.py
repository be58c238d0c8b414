"""Failure files: one failing branch as TOML, with all that is needed to run it again, for people to read and edit.

    [branch]     scenario, vms, quantum_ns, chaos_ns, settle_ns, seed, number, branch_seed, digest, version
    [schedule]   the faults (faults/schedule.py)

Seeds are texts, since TOML's integers end at 2^63.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chaoscontrol import __version__
from chaoscontrol.errors import UsageError
from chaoscontrol.explore.blind import BranchPlan
from chaoscontrol.faults import FaultError, FaultSchedule, Origin
from chaoscontrol.faults.types import NS_MAX
from chaoscontrol.texts import read_toml

if TYPE_CHECKING:
    from chaoscontrol.scenario import Scenario
    from chaoscontrol.trial import BranchResult

SEED_MAX = (1 << 64) - 1
COMMENT_CHARS_MAX = 300
HINT = "give a failure file that --output wrote"


@dataclasses.dataclass(frozen=True, slots=True)
class SavedBranch:
    """A failing branch, as a file tells it."""

    scenario: str
    vms: int
    quantum_ns: int
    chaos_ns: int
    settle_ns: int
    seed: int
    plan: BranchPlan
    digest: str
    version: str

    def applied_to(self, scenario: Scenario) -> Scenario:
        """The scenario with the sizes and times that the branch had."""
        return dataclasses.replace(
            scenario,
            count=self.vms,
            quantum_ns=self.quantum_ns,
            chaos_ns=self.chaos_ns,
            settle_ns=self.settle_ns,
        )


def file_name(name: str, seed: int, number: int) -> str:
    """Of a branch's file: another search's never has the same."""
    return f"failure-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-s{seed}-b{number:06d}.toml"


def replay_command(path: str) -> str:
    """What a person types to see it again."""
    return f"cc-tui --batch --replay {shlex.quote(path)}"


def failure_text(
    scenario_name: str, scenario: Scenario, seed: int, plan: BranchPlan, result: BranchResult, path: str
) -> str:
    """The file. scenario_name: what load_scenario() takes, from any directory."""
    comments: list[str] = []
    for failure in result.failures:
        at = f" at {failure.counterexample}" if failure.counterexample is not None else ""
        comments.append(f"{failure.name}{at}: {failure.details}")
    comments.append(f"Again: {replay_command(path)}")
    lines = ["# " + _one_line(comment)[:COMMENT_CHARS_MAX] for comment in comments]
    lines += [
        "",
        "[branch]",
        f"scenario = {json.dumps(scenario_name)}",
        f"vms = {scenario.count}",
        f"quantum_ns = {scenario.quantum_ns}",
        f"chaos_ns = {scenario.chaos_ns}",
        f"settle_ns = {scenario.settle_ns}",
        f'seed = "{seed}"',
        f"number = {plan.number}",
        f'branch_seed = "{plan.branch_seed}"',
        f'digest = "{result.digest}"',
        f'version = "{__version__}"',
        "",
        "[schedule]",
        result.schedule.to_toml().replace("[[fault]]", "[[schedule.fault]]"),
    ]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """Guests may say anything; a TOML comment may not hold it."""
    return "".join(c if c.isprintable() else " " for c in text)


def read_failure(path: str) -> SavedBranch:
    """Reads such a file. Raises UsageError that says where the damage is."""
    try:
        table = read_toml(Path(path).read_bytes())
    except OSError as e:
        raise UsageError(e.strerror or str(e), where=path, hint=HINT) from None
    except ValueError as e:
        raise UsageError(str(e), where=path, hint=HINT) from None
    fields = _Fields(_table(table, "branch", path), path)
    plan = BranchPlan(
        fields.number("number", 0, SEED_MAX),
        fields.seed("branch_seed"),
        FaultSchedule.from_table(_table(table, "schedule", path), where=path),
    )
    saved = SavedBranch(
        scenario=fields.text("scenario", r".+", "a scenario's name or file"),
        vms=fields.number("vms", 1, 256),
        quantum_ns=fields.number("quantum_ns", 1000, NS_MAX),
        chaos_ns=fields.number("chaos_ns", 1, NS_MAX),
        settle_ns=fields.number("settle_ns", 0, NS_MAX),
        seed=fields.seed("seed"),
        plan=plan,
        digest=fields.text("digest", r"[0-9a-f]{32}", "32 hexadecimal digits"),
        version=fields.text("version", r"\S+", "a version"),
    )
    if plan.schedule.origin is not Origin.BRANCH:
        hint = f'give origin = "{Origin.BRANCH}"'
        raise UsageError(f"[schedule] origin cannot be '{plan.schedule.origin}'", where=path, hint=hint)
    try:
        plan.schedule.check(saved.vms)
    except FaultError as e:
        raise FaultError(e.what, where=path, hint=e.hint) from None
    return saved


def _table(table: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    found = table.get(name)
    if not isinstance(found, dict):
        raise UsageError(f"no failure file: there is no [{name}]", where=path, hint=HINT)
    return cast("dict[str, Any]", found)


class _Fields:
    """The fields of [branch], checked."""

    def __init__(self, table: dict[str, Any], path: str) -> None:
        self._table = table
        self._path = path

    def _fail(self, name: str, allowed: str) -> UsageError:
        value = self._table.get(name)
        what = f"[branch] {name} is missing" if value is None else f"[branch] {name} cannot be {value!r}"
        return UsageError(what, where=self._path, hint=f"give {allowed}")

    def number(self, name: str, low: int, high: int) -> int:
        value = self._table.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._fail(name, f"a whole number from {low} to {high}")
        return value

    def text(self, name: str, pattern: str, allowed: str) -> str:
        value = self._table.get(name)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise self._fail(name, allowed)
        return value

    def seed(self, name: str) -> int:
        value = int(self.text(name, r"[0-9]{1,20}", "a text of a number from 0 to 2^64 - 1"))
        if value > SEED_MAX:
            raise self._fail(name, "a text of a number from 0 to 2^64 - 1")
        return value
