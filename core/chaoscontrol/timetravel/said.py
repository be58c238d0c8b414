"""What machines say in one segment of the way: console output not yet in a log, and dated lines of their notes."""

import re

from chaoscontrol.timetravel.cluster_api import ConsoleMark, Machine
from chaoscontrol.timetravel.moment import NS_PER_S

_DATE = re.compile(r"\[(\d{1,10})\.(\d{9}) s, instruction \d+\] ", re.ASCII)


def dated(vns: int, machine: int, line: str) -> tuple[int, int, str]:
    """A line of a machine's log with the time that it says itself (native/log.c), or `vns` if it says none."""
    match = _DATE.match(line)
    if match is None:
        return vns, machine, line
    return int(match[1]) * NS_PER_S + int(match[2]), machine, line[match.end() :]


class Sent:
    """What one machine's console has sent since the segment began."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.marks: list[ConsoleMark] = []
        self._total: int = 0

    def take(self, vm: Machine) -> None:
        if vm.console_total != self._total:
            self._total = vm.console_total
            self.data += vm.take_serial_bytes()
            self.marks += vm.take_console_marks()

    def clear(self) -> None:
        self.data.clear()
        self.marks.clear()
