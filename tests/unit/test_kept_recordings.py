"""Recordings that nobody asked for: bounded in number and size, and nothing else in their directory is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cc_tui import cli, diagnostics, kept_recordings
from cc_tui.kept_recordings import new_session_path, prune, recordings_dir
from cc_tui.options import LaunchOptions


def fill(directory: Path, count: int, size: int = 10) -> list[Path]:
    made = [directory / f"session-{n}.ccrec" for n in range(count)]
    for age, path in enumerate(made):
        path.write_bytes(bytes(size))
        os.utime(path, (1000 + age, 1000 + age))
    return made


def test_the_oldest_go_first_and_only_they(tmp_path: Path) -> None:
    made = fill(tmp_path, 6)
    own = tmp_path / "mine.ccrec"
    own.write_bytes(bytes(1000))
    os.utime(own, (1, 1))
    prune(tmp_path, files_max=4)
    assert [path.exists() for path in made] == [False] * 3 + [True] * 3, "room for one more"
    assert own.exists()


def test_what_they_hold_together_is_bounded(tmp_path: Path) -> None:
    made = fill(tmp_path, 5, size=100)
    prune(tmp_path, bytes_max=250)
    assert [path.exists() for path in made] == [False] * 3 + [True] * 2


def test_a_session_is_recorded_into_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = new_session_path("20260101-000000")
    assert path.parent == recordings_dir() == tmp_path / "cc-tui" / "recordings"
    assert path.name == f"session-20260101-000000-{os.getpid()}.ccrec"


@pytest.mark.parametrize(
    ("words", "recorded"), [([], True), (["--no-record"], False), (["--record", "my.ccrec"], True)]
)
def test_the_interface_records_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], recorded: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened: list[LaunchOptions] = []

    def run_app(options: LaunchOptions) -> int:
        opened.append(options)
        return 0

    monkeypatch.setattr("cc_tui.tui.app.run_app", run_app)
    monkeypatch.setattr(diagnostics, "has_terminal", lambda: True)
    done = CliRunner().invoke(cli.cli, words)
    assert done.exit_code == 0, done.output
    (options,) = opened
    assert (options.record is not None) == recorded
    if not words:
        assert options.record is not None
        assert Path(options.record).parent == recordings_dir()
        assert f"recorded; to live through it again: cc-tui replay {options.record}" in done.output


def test_a_state_directory_that_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    opened: list[LaunchOptions] = []
    monkeypatch.setattr("cc_tui.tui.app.run_app", lambda options: opened.append(options) or 0)
    monkeypatch.setattr(diagnostics, "has_terminal", lambda: True)
    done = CliRunner().invoke(cli.cli, [])
    assert done.exit_code == 0
    assert opened[0].record is None
    assert "cc-tui: the session is not recorded: " in done.output


def test_limits_leave_room_for_several_sessions() -> None:
    assert kept_recordings.SESSION_BYTES_MAX * 4 <= kept_recordings.KEPT_BYTES_MAX
