"""The long run of the hostile guest; its short one is among the native programs (test_native_programs.py)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from flat_guests import ROOT
from test_native_programs import SANITIZER_OPTIONS, builder


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_minutes_of_a_hostile_guest_harm_nobody() -> None:
    program = builder("asan").test_program(ROOT / "native" / "tests" / "test_hostile_guest.c")
    env = {**os.environ, **SANITIZER_OPTIONS, "CC_FUZZ_SECONDS": os.environ.get("CC_FUZZ_SECONDS", "600")}
    env["CC_FUZZ_SEED"] = "1000000"
    done = subprocess.run([str(program)], env=env, stdout=sys.stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
