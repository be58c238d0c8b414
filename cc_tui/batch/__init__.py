"""`cc-tui --batch`: searches for the schedule of faults that breaks a system, without the interface.

stdout gets the summary (text, or --json), stderr the progress. Every failure is kept in --output as a small TOML file
that replays it. Branch i is the same whatever the number of workers; only how many branches fit into --time depends
on the host. docs/batch.md is the manual.
"""

from .options import BatchOptions
from .run import run_batch

__all__ = ["BatchOptions", "run_batch"]
