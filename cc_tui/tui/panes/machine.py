"""The machine pane: registers and disassembly of the machine in focus, at the cursor."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import capstone
from rich.style import Style
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from cc_tui.session import MachineView, SessionView
from cc_tui.tui.keymap import MACHINE_KEYS, pane_bindings
from cc_tui.tui.panes.pane import SidePane
from cc_tui.tui.rows import Line
from cc_tui.tui.theme import is_dark, machine_colour
from chaoscontrol.flags import flag_names
from chaoscontrol.registers import GPR_NAMES, Registers

REGISTER_CELLS = 21
"""`r10 0123456789abcdef` and a blank."""
_ORDER = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
assert set(_ORDER) == set(GPR_NAMES), "every general register is shown"


def disassemble(code: bytes, address: int, count: int) -> list[tuple[int, str, str, str]]:
    """Up to `count` instructions: (address, bytes in hexadecimal, mnemonic, operands)."""
    decoder: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    lines: list[tuple[int, str, str, str]] = []
    at = 0
    while len(lines) < count and at < len(code):
        decoded = next(iter(decoder.disasm_lite(code[at : at + 15], address + at, 1)), None)
        if decoded is None:
            if len(code) - at < 15:
                # Cut off by the end of what was read.
                break
            lines.append((address + at, f"{code[at]:02x}", "(bad)", ""))
            at += 1
            continue
        where, size, mnemonic, operands = decoded
        lines.append((where, code[at : at + size].hex(), mnemonic, operands))
        at += size
    return lines


class MachinePane(SidePane, Widget, can_focus=True):
    """Registers, then the instructions from RIP on."""

    NAME = "machine"
    ABOUT = "Registers and code of the machine in focus at the cursor; what the last command changed stands out."
    PANE_KEYS = MACHINE_KEYS
    ROWS_MIN = 18
    WEIGHT = 2
    BINDINGS = pane_bindings(MACHINE_KEYS)
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar = {
        "machine--value", "machine--quiet", "machine--faint", "machine--symbol", "machine--changed", "machine--here",
    }  # fmt: skip

    class Beside(Message):
        """Somebody wants to see the machine that comes `by` after the one in focus."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self) -> None:
        super().__init__(id=self.NAME, classes="side-pane")
        self.symbolise: Callable[[int], str] = lambda _: ""
        """The name of an address, or nothing."""
        self._view: SessionView | None = None
        self._machine: MachineView | None = None
        self._lines: list[Line] | None = None
        self._styles_known: dict[str, Style] = {}

    def show(self, view: SessionView) -> None:
        """Show the machine as it is in this picture."""
        self._view, self._machine = view, view.machine
        self._lines = None
        self.refresh()

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        return [("← →", "machine")] if len(view.instrets) > 1 else []

    def use_names(self, symbolise: Callable[[int], str]) -> None:
        """Use `symbolise` for the names of addresses."""
        self.symbolise, self._lines = symbolise, None
        self.refresh()

    def action_machine(self, by: int) -> None:
        self.post_message(self.Beside(by))

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self._lines = None
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles_known.clear()
        self._lines = None

    def _style(self, name: str) -> Style:
        style = self._styles_known.get(name)
        if style is None:
            style = self._styles_known[name] = self.get_component_rich_style(f"machine--{name}", partial=True)
        return style

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.visual_style.rich_style
        if self._lines is None:
            self._lines = self._draw(width, self.content_size.height)
        return (self._lines[y] if y < len(self._lines) else Line()).strip(width, base)

    def _draw(self, width: int, height: int) -> list[Line]:
        if self._view is None or self._machine is None:
            return []
        lines = [self._head(self._view, self._machine), *self._registers(self._machine.registers, width), Line()]
        return [*lines, *self._code(self._machine, width, height - len(lines))]

    def _head(self, view: SessionView, machine: MachineView) -> Line:
        registers, line = machine.registers, Line()
        line.append(f"vm{machine.machine}", Style(color=machine_colour(machine.machine, dark=is_dark(self))))
        if machine.machine in view.stopped:
            state = "stopped"
        else:
            level = "user" if registers.cs.selector & 3 else "kernel"
            state = f"{level}, halted" if registers.halted else level
        line.append(f"  {state}", self._style("value"))
        line.append(f"  {view.instrets[machine.machine]:,} insns", self._style("quiet"))
        return line

    def _registers(self, registers: Registers, width: int) -> list[Line]:
        names = (*_ORDER, "rip", "rflags")
        columns = min(max(width // REGISTER_CELLS, 1), 4)
        lines: list[Line] = []
        for start in range(0, len(names), columns):
            lines.append(self._register_row(names[start : start + columns], registers))
        at = Line()
        at.append("at  ", self._style("quiet"))
        name = self.symbolise(registers.rip)
        at.append(name or "no symbol", self._style("symbol" if name else "faint"))
        at.append(f"  {flag_names('rflags', registers.rflags)}", self._value_style("rflags", registers))
        return [*lines, at, self._register_row(("cr2", "cr3"), registers)]

    def _register_row(self, names: Sequence[str], registers: Registers) -> Line:
        line = Line()
        for name in names:
            line.append(f"{name[:3]:3} ", self._style("quiet"))
            line.append(f"{getattr(registers, name):016x} ", self._value_style(name, registers))
        return line

    def _value_style(self, name: str, registers: Registers) -> Style:
        before = self._machine.before if self._machine is not None else None
        changed = before is not None and getattr(before, name) != getattr(registers, name)
        return self._style("changed" if changed else "value")

    def _code(self, machine: MachineView, width: int, rows: int) -> list[Line]:
        lines: list[Line] = []
        hexes = 20 if width >= 76 else 0
        for at, decoded in enumerate(disassemble(machine.code, machine.registers.rip, max(rows, 0))):
            address, code, mnemonic, operands = decoded
            line, here = Line(), at == 0
            line.append("▸ " if here else "  ", self._style("here"))
            line.append(f"{address:016x} ", self._style("here" if here else "quiet"))
            line.append(f"{code:{hexes}.{hexes}} " if hexes else "", self._style("faint"))
            line.append(f"{mnemonic:6} ", self._style("here" if here else "value"))
            line.append(self._operands(operands), self._style("value"))
            line.truncate(width)
            lines.append(line)
        if not machine.code:
            line = Line()
            line.append("the code at RIP is not mapped", self._style("quiet"))
            lines.append(line)
        return lines

    def _operands(self, operands: str) -> str:
        """Operands as short as they go, with the name of the address that a call or jump goes to."""
        if operands.startswith("0x") and operands[2:].isalnum():
            return self.symbolise(int(operands, 16)) or operands
        return operands.replace(" ptr [", " [")
