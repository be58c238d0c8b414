"""Recordings: histories in files, written while they happen, read without running anything, and replayed verified.

docs/recording-format.md has the format.
"""

from chaoscontrol.recording.branch import RecordedRun, record_branch
from chaoscontrol.recording.confidence import upper_bound
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.header import Header, Image, Judge
from chaoscontrol.recording.known import foretold_branches
from chaoscontrol.recording.reader import FILTERS, RecordedBranch, Recording, Repair, load_recording
from chaoscontrol.recording.rebuild import Rebuilt, embedded_images, identify, make_header, rebuild
from chaoscontrol.recording.replay import Compared, Difference, DifferenceError, Replay
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
    "RecordedRun",
    "Recorder",
    "Recording",
    "RecordingError",
    "Repair",
    "Replay",
    "embedded_images",
    "foretold_branches",
    "identify",
    "load_recording",
    "make_header",
    "rebuild",
    "record_branch",
    "upper_bound",
]
