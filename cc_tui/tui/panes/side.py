"""The panes beside the consoles, in the order of their tabs."""

from cc_tui.tui.panes.branches import BranchPane
from cc_tui.tui.panes.events import EventPane
from cc_tui.tui.panes.machine import MachinePane
from cc_tui.tui.panes.pane import SidePane

SIDE_PANES: tuple[type[SidePane], ...] = (MachinePane, BranchPane, EventPane)
SIDE_NAMES: tuple[str, ...] = tuple(pane.NAME for pane in SIDE_PANES)
