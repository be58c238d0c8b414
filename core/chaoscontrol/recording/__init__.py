"""Recordings: histories in files, written while they happen, read without running anything, and replayed verified.

docs/recording-format.md has the format.
"""

from chaoscontrol.recording.branch import RecordedRun, record_branch
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.header import Header, Image, Judge
from chaoscontrol.recording.known import foretold_branches, foretold_marks, told_branches
from chaoscontrol.recording.packets import read_packets, replay_packets
from chaoscontrol.recording.reader import FILTERS, Recording, Repair, load_recording
from chaoscontrol.recording.rebuild import Rebuilt, embedded_images, identify, make_header, rebuild
from chaoscontrol.recording.replay import Compared, Difference, DifferenceError, Replay
from chaoscontrol.recording.tree import RecordedBranch, RecordedMark
from chaoscontrol.recording.writer import Recorder

__all__ = [
    "FILTERS",
    "Compared",
    "Difference",
    "DifferenceError",
    "Header",
    "Image",
    "Judge",
    "Rebuilt",
    "RecordedBranch",
    "RecordedMark",
    "RecordedRun",
    "Recorder",
    "Recording",
    "RecordingError",
    "Repair",
    "Replay",
    "embedded_images",
    "foretold_branches",
    "foretold_marks",
    "identify",
    "load_recording",
    "make_header",
    "read_packets",
    "rebuild",
    "record_branch",
    "replay_packets",
    "told_branches",
]
