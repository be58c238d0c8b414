"""The panes beside the consoles, in the order of their tabs."""

from cc_tui.tui.panes.branches import BranchPane
from cc_tui.tui.panes.coverage import CoveragePane
from cc_tui.tui.panes.events import EventPane
from cc_tui.tui.panes.faults import FaultsPane
from cc_tui.tui.panes.machine import MachinePane
from cc_tui.tui.panes.network import NetworkPane
from cc_tui.tui.panes.pane import SidePane
from cc_tui.tui.panes.properties import PropertiesPane

SIDE_PANES: tuple[type[SidePane], ...] = (
    FaultsPane, PropertiesPane, EventPane, BranchPane, NetworkPane, CoveragePane, MachinePane,
)  # fmt: skip
SIDE_NAMES: tuple[str, ...] = tuple(pane.NAME for pane in SIDE_PANES)
