"""What tests of commands on a session share."""

from __future__ import annotations

import pytest

from cc_tui.session import Session
from chaoscontrol import ChaosControlError


def refused(session: Session, line: str) -> str:
    """Why a command cannot be carried out: one line, and nothing has changed."""
    before, inputs = session.view.moment, session.view.inputs
    with pytest.raises(ChaosControlError) as caught:
        session.execute(line)
    assert "\n" not in str(caught.value)
    assert (session.view.moment, session.view.inputs) == (before, inputs)
    return str(caught.value)
