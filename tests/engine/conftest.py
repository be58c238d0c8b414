"""Fixtures of the engine tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import qemu
import system_guest
from system_guest import Guest, Outcome


@pytest.fixture(params=["soft", "qemu"])
def machine(request: pytest.FixtureRequest) -> Callable[[Guest], Outcome]:
    """Runs a system guest: on the soft CPU, and under QEMU, so that what a test expects is checked twice."""
    run: Callable[[Guest], Outcome] = system_guest.run if request.param == "soft" else qemu.run
    return run
