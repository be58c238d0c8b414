"""The machine pane: registers and disassembly of the machine in focus, at the cursor."""

from collections.abc import Callable
from typing import Any, ClassVar

import capstone
from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from cc_tui.session import MachineView, SessionView
from cc_tui.tui.keymap import MACHINE_KEYS, pane_bindings
from cc_tui.tui.theme import app_of, is_dark, machine_colour
from chaoscontrol.registers import GPR_NAMES, Registers

REGISTER_CELLS = 21
"""`r10 0123456789abcdef` and a blank."""
_ORDER = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
assert set(_ORDER) == set(GPR_NAMES), "every general register is shown"

# RFLAGS, SDM vol. 1, 3.4.3
_FLAGS = ((0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF"), (11, "OF"),
          (14, "NT"), (16, "RF"), (18, "AC"), (21, "ID"))  # fmt: skip


def flag_names(rflags: int) -> str:
    """The flags that are set, and IOPL if it is not 0."""
    names = [name for bit, name in _FLAGS if rflags >> bit & 1]
    iopl = rflags >> 12 & 3
    return " ".join([*names, *([f"IOPL={iopl}"] if iopl else [])])


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


class MachinePane(Widget, can_focus=True):
    """Registers, then the instructions from RIP on."""

    BINDINGS = pane_bindings(MACHINE_KEYS)
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar = {
        "machine--value", "machine--quiet", "machine--faint", "machine--symbol", "machine--changed", "machine--here",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__(id="machine")
        self.symbolise: Callable[[int], str] = lambda _: ""
        """The name of an address, or nothing."""
        self._view: SessionView | None = None
        self._machine: MachineView | None = None
        self._before: Registers | None = None
        """The registers of the picture before, to show what changed."""

    def show(self, view: SessionView) -> None:
        """Show the machine as it is in this picture."""
        machine = view.machine
        if machine != self._machine:
            same = self._machine is not None and machine is not None and self._machine.machine == machine.machine
            self._before = self._machine.registers if same and self._machine is not None else None
        self._view, self._machine = view, machine
        self.refresh()

    def action_machine(self, by: int) -> None:
        if self._view is not None:
            count = len(self._view.instrets)
            app_of(self).call_later(self.screen.run_action, f"line('vm {(self._view.focus + by) % count}')")

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def render(self) -> Text:
        if self._view is None or self._machine is None:
            return Text("")
        width, height = self.content_size
        text = Text(no_wrap=True, end="")
        self._head(text, self._machine)
        self._registers(text, self._machine.registers, width)
        used = text.plain.count("\n") + 1
        self._code(text, self._machine, width, height - used)
        return text

    def _head(self, text: Text, machine: MachineView) -> None:
        assert self._view is not None, "checked by render"
        registers = machine.registers
        text.append(f"vm{machine.machine}", Style(color=machine_colour(machine.machine, dark=is_dark(self))))
        if machine.machine in self._view.stopped:
            state = "stopped"
        else:
            level = "user" if registers.cs.selector & 3 else "kernel"
            state = f"{level}, halted" if registers.halted else level
        text.append(f"  {state}", self._style("machine--value"))
        text.append(f"  {self._view.instrets[machine.machine]:,} insns\n", self._style("machine--quiet"))

    def _registers(self, text: Text, registers: Registers, width: int) -> None:
        names = (*_ORDER, "rip", "rflags")
        columns = min(max(width // REGISTER_CELLS, 1), 4)
        for at, name in enumerate(names):
            self._register(text, name, registers)
            text.append("\n" if at % columns == columns - 1 or at == len(names) - 1 else " ")
        text.append("at  ", self._style("machine--quiet"))
        text.append(self.symbolise(registers.rip) or "no symbol", self._style("machine--symbol"))
        text.append(f"  {flag_names(registers.rflags)}\n", self._value_style("rflags", registers))
        for name in ("cr2", "cr3"):
            self._register(text, name, registers)
            text.append(" ")
        text.append("\n")

    def _register(self, text: Text, name: str, registers: Registers) -> None:
        text.append(f"{name[:3]:3} ", self._style("machine--quiet"))
        text.append(f"{getattr(registers, name):016x}", self._value_style(name, registers))

    def _value_style(self, name: str, registers: Registers) -> Style:
        changed = self._before is not None and getattr(self._before, name) != getattr(registers, name)
        return self._style("machine--changed" if changed else "machine--value")

    def _code(self, text: Text, machine: MachineView, width: int, rows: int) -> None:
        rip = machine.registers.rip
        if not machine.code:
            text.append("\nthe code at RIP is not mapped", self._style("machine--quiet"))
            return
        hexes = 20 if width >= 76 else 0
        for at, (address, code, mnemonic, operands) in enumerate(disassemble(machine.code, rip, max(rows - 1, 0))):
            here = at == 0
            line = Text.assemble(
                ("▸ " if here else "  ", self._style("machine--here")),
                (f"{address:016x} ", self._style("machine--here" if here else "machine--quiet")),
                (f"{code:{hexes}.{hexes}} " if hexes else "", self._style("machine--faint")),
                (f"{mnemonic:6} ", self._style("machine--here" if here else "machine--value")),
                (self._operands(operands), self._style("machine--value")),
            )
            line.truncate(width, overflow="ellipsis")
            text.append("\n")
            text.append_text(line)

    def _operands(self, operands: str) -> str:
        """Operands as short as they go, with the name of the address that a call or jump goes to."""
        if operands.startswith("0x") and operands[2:].isalnum():
            return self.symbolise(int(operands, 16)) or operands
        return operands.replace(" ptr [", " [")
