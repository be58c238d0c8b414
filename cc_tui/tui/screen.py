"""The main screen: where the panes are, what keys and commands do to them, and how they follow the session.

Panes never talk to the engine: they post messages, and this screen turns them into commands for the session.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from cc_tui.commands import SPECS, Answer, CommandError, FrontendCommand, Notice, parse
from cc_tui.commands.completion import Names, names_in
from cc_tui.commands.engine import (
    EndTyping,
    Faster,
    Goto,
    Insn,
    Pause,
    Run,
    Source,
    Speed,
    StepSize,
    Toggle,
    Type,
    reason,
)
from cc_tui.commands.language import quote
from cc_tui.commands.place import Place
from cc_tui.places import state_dir
from cc_tui.session import Finished, Progress, Session, SessionView
from cc_tui.settings import Settings
from cc_tui.symbols import SymbolTable
from cc_tui.tui.dialogs import AnswerScreen, ConfirmScreen, HelpScreen, LeaveScreen
from cc_tui.tui.inject import FormMemory, InjectForm
from cc_tui.tui.keymap import BY_ID, HINTS, KEYS, PINNED, Key, main_bindings, show_keys
from cc_tui.tui.layout import BAR_ROWS, Shape, grid_fits, is_wide, share_rows
from cc_tui.tui.lines import LineView
from cc_tui.tui.palette import Entry, Palette
from cc_tui.tui.panes.bars import HintBar, StatusBar, Tab, TabBar, Timeline
from cc_tui.tui.panes.console import MergedConsole, SerialConsole
from cc_tui.tui.panes.machine import MachinePane
from cc_tui.tui.panes.pane import Ask, Fill, SidePane
from cc_tui.tui.panes.side import SIDE_NAMES, SIDE_PANES
from cc_tui.tui.prompt import Prompt
from cc_tui.tui.session_screen import SessionScreen
from cc_tui.tui.theme import app_of, is_dark, machine_colour
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.signal import Signal

SHAPES = tuple(Shape(pane.NAME, pane.ROWS_MIN, pane.WEIGHT) for pane in SIDE_PANES)


class MainScreen(SessionScreen, inherit_bindings=False):
    """Consoles, machine, branches and events of one session."""

    BINDINGS = main_bindings()

    def __init__(self, session: Session, settings: Settings, *, run: bool, first: str = "") -> None:
        """`first`: a line to begin with."""
        super().__init__(session)
        self._settings = settings
        self._run_at_start, self._first = run, first
        count = len(session.view.instrets)
        self._machines = count
        tabs = [Tab(str(machine), f"vm{machine}", machine) for machine in range(count)]
        tabs += [Tab("all", "all")] if count > 1 else []
        tabs += [Tab(name, name) for name in SIDE_NAMES]
        self._tabs = tabs
        self._current = "0"
        """The pane in view, as `view` names it."""
        self._console_view = "0"
        """The console that is or was last in view: a machine's number, `all` or `grid`."""
        self._side_view = SIDE_NAMES[0] if count > 1 else MachinePane.NAME
        """The side pane that is or was last in view."""
        self._maximised = False
        self._last_focused: Widget | None = None
        """The pane that has the focus, or had it before the prompt."""
        self._form_memory = FormMemory()
        self._symbols: SymbolTable | None = None
        self._found = ""
        """The last text searched for."""

    # ---- building ---------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield TabBar(self._tabs)
        with Horizontal(id="body"):
            with Vertical(id="consoles"):
                for machine in range(self._machines):
                    yield SerialConsole(machine)
                if self._machines > 1:
                    yield MergedConsole()
            with Vertical(id="side"):
                for make in SIDE_PANES:
                    yield make()
        yield Timeline()
        yield StatusBar()
        yield HintBar()
        yield Prompt(self._names)

    def on_mount(self) -> None:
        self.query_one(Prompt).display = False
        for machine in range(self._machines):
            self._pane(str(machine)).border_title = f"vm{machine}"
        self._colour_titles()
        for name in ("all", *SIDE_NAMES) if self._machines > 1 else SIDE_NAMES:
            self._pane(name).border_title = name
        if self._machines > 1:
            self._current = self._console_view = "grid" if self._grid_fits() else "all"
        self.view_pane(self._current)
        # A dialog that is given its size makes Textual forget that the screen beneath waits to be drawn.
        laid_out = cast("Signal[Screen[Any]]", self.screen_layout_refresh_signal)  # pyright: ignore[reportUnknownMemberType]
        laid_out.subscribe(self, lambda _: self.check_idle(), immediate=True)
        self.session.subscribe(self.published)
        self.session.start()
        self.submit(Speed(self._settings.speed))
        if self._settings.step_ns != self.session.view.step_ns:
            self.submit(StepSize(self._settings.step_ns))
        if self._first:
            self.run_line(self._first)
        if self._run_at_start:
            self.submit(Run())

    def _colour_titles(self) -> None:
        dark = is_dark(self)
        for machine in range(self._machines):
            self._pane(str(machine)).styles.border_title_color = machine_colour(machine, dark=dark)

    def use_symbols(self, symbols: SymbolTable) -> None:
        """Use them for the names of addresses."""
        self._symbols = symbols
        self.query_one(MachinePane).use_names(symbols.name)

    def _names(self) -> Names:
        return names_in(self.session.view, self._symbols, self._known_panes())

    # ---- arranging --------------------------------------------------------------------------------------------------

    @property
    def wide(self) -> bool:
        return is_wide(app_of(self).size.width)

    def _grid_fits(self) -> bool:
        size = app_of(self).size
        return grid_fits(size.width, size.height, self._machines)

    @property
    def _side_panes(self) -> list[SidePane]:
        return [pane for make in SIDE_PANES for pane in self.query(make)]

    def _pane(self, name: str) -> Widget:
        if name == "grid":
            name = str(self.session.focus)
        return self.query_one(f"#console-{name}" if name.isdecimal() or name == "all" else f"#{name}", Widget)

    def _consoles_in_view(self) -> list[str]:
        if self._console_view == "grid":
            return [str(machine) for machine in range(self._machines)]
        return [self._console_view]

    def _arrange(self) -> None:
        """Show the panes that belong in view, and only those."""
        if self._console_view == "grid" and not self._grid_fits():
            self._console_view = "all"
            self._current = "all" if self._current == "grid" else self._current
        alone = self._maximised or not self.wide
        consoles = self._consoles_in_view()
        if self._maximised and self._current == "grid":
            consoles = [str(self.session.focus)]
        side = self._current in SIDE_NAMES
        self.query_one("#consoles").display = not (alone and side)
        self.query_one("#side").display = side or not alone
        for name in [str(machine) for machine in range(self._machines)] + (["all"] if self._machines > 1 else []):
            self._pane(name).display = name in consoles
        rows = app_of(self).size.height - BAR_ROWS
        given = {self._side_view: rows} if alone else share_rows(SHAPES, rows, self._side_view)
        for pane in self._side_panes:
            pane.display = pane.NAME in given
            pane.styles.height = "100%" if alone else given.get(pane.NAME, 0)
        self.set_class(alone, "-alone")
        self._refresh_panes(self.session.view)

    def view_pane(self, name: str) -> None:
        """Bring a pane into view and focus it."""
        if name in SIDE_NAMES:
            self._side_view = name
        else:
            self._console_view = name
        self._current = name
        self._arrange()
        self._focus(self._pane(name))
        self._hints()

    def on_resize(self) -> None:
        if self.is_mounted:
            self._arrange()

    def _focus(self, pane: Widget) -> None:
        """Give a pane the focus before the next key."""
        self.set_focus(pane)
        self._focused(pane)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._focused(event.widget)

    def _focused(self, widget: Widget) -> None:
        name = self._name_of(widget)
        if name is None or widget is self._last_focused:
            return
        self._last_focused = widget
        if not (self._console_view == "grid" and name.isdecimal()):
            self._current = name
        else:
            self._current = "grid"
        if name.isdecimal():
            self.focus_machine(int(name))
        self.query_one(TabBar).show(self._current if self._current != "grid" else name, self.session.view)
        self._hints()

    def _name_of(self, widget: Widget) -> str | None:
        if isinstance(widget, SerialConsole):
            return str(widget.machine)
        if isinstance(widget, MergedConsole):
            return "all"
        return widget.id if widget.id in SIDE_NAMES else None

    # ---- following the session --------------------------------------------------------------------------------------

    @on(SessionScreen.FromSession)
    def _from_session(self, message: SessionScreen.FromSession) -> None:
        event = message.event
        if isinstance(event, SessionView):
            # Only the latest picture counts; if there is a later one, its message is on the way.
            if event is self.session.view:
                self._refresh_panes(event)
        elif isinstance(event, Notice):
            self.query_one(HintBar).show_notice(event)
        elif isinstance(event, Answer):
            self._show_answer(event)
        elif isinstance(event, Progress):
            self.query_one(StatusBar).show_progress(event)
            self.see_work()
        elif isinstance(event, Finished):
            self.query_one(StatusBar).show_progress(None)
        else:
            self._leave(event.error)

    def _show_answer(self, answer: Answer) -> None:
        if len(answer.lines) <= 1:
            self._say("".join(answer.lines))
        else:
            app_of(self).push_screen(AnswerScreen(answer.lines))

    def _refresh_panes(self, view: SessionView) -> None:
        shown = self._current if self._current != "grid" else str(view.focus)
        self.query_one(TabBar).show(shown, view)
        self.query_one(Timeline).show(view)
        self.query_one(StatusBar).show(view)
        for console in self.query(SerialConsole):
            if console.display:
                console.show(view)
        for merged in self.query(MergedConsole):
            if merged.display:
                merged.show(view)
        side = self.query_one("#side").display
        for pane in self._side_panes:
            if side and pane.display:
                pane.show(view)
        self.set_class(not view.at_end, "-past")
        self._hints()

    def _hints(self) -> None:
        """What the next keys could be."""
        attached = self._attached()
        self.query_one(StatusBar).show_attached(None if attached is None else attached.machine)
        bar, view = self.query_one(HintBar), self.session.view
        if attached is not None:
            how = "typing makes a branch here" if not view.at_end else "keys go to the guest"
            bar.show_hints([("ctrl+] or esc", "give the keys back"), ("", how)])
            return
        focused = self.focused
        if isinstance(focused, LineView) and focused.selected is not None:
            vns = focused.line_vns(focused.selected)
            when = "" if vns is None else f" at {vns / 1e9:.6f} s"
            place = f"line {focused.selected + 1} of {focused.line_count()}{when}"
            bar.show_hints([("enter", "go there"), ("end", "follow"), ("/", "search"), ("", place)])
            return
        hints = [("space", "pause" if view.running else "run")]
        if isinstance(focused, SerialConsole):
            hints.append(("enter", "type"))
        elif isinstance(focused, SidePane):
            hints += focused.hints(view)
        hints += [self._hint(key_id) for key_id in HINTS]
        bar.show_hints(hints, [self._hint(key_id) for key_id in PINNED])

    def _hint(self, key_id: str) -> tuple[str, str]:
        """The first key of a binding, with the one that goes back, and a word for it."""
        key, back = BY_ID[key_id], BY_ID.get(f"{key_id}-back")
        assert isinstance(key, Key), "hints are about the main screen's keys"
        keys = self._shown_keys(key).split()[0]
        return (f"{keys} {self._shown_keys(back).split()[0]}" if isinstance(back, Key) else keys), key.hint

    @property
    def _remapped(self) -> dict[str, str]:
        return getattr(app_of(self), "remapped", {})

    def _shown_keys(self, key: Key) -> str:
        return show_keys(self._remapped.get(key.id, key.keys))

    def _attached(self) -> SerialConsole | None:
        return next((console for console in self.query(SerialConsole) if console.attached), None)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def _say(self, text: str, severity: str = "information") -> None:
        self.query_one(HintBar).show_notice(Notice(text, severity))

    def run_line(self, line: str) -> None:
        """Carry out a line of the command language."""
        self.query_one(HintBar).show_notice(None)
        try:
            command = parse(line, quantum_ns=self.session.quantum_ns)
        except CommandError as error:
            self._say(str(error), "error")
            return
        if isinstance(command, Source):
            self._source(command)
        elif isinstance(command, FrontendCommand):
            self._frontend(command)
        elif command is not None:
            if isinstance(command, Insn) and self._console_view.isdecimal():
                self.focus_machine(int(self._console_view))
            if isinstance(command, Pause) and self.saw_work():
                self.stop()
            else:
                self.submit(command)

    def _source(self, command: Source) -> None:
        try:
            self.source(command)
        except CommandError as error:
            self._say(str(error), "error")

    def _frontend(self, command: FrontendCommand) -> None:
        name, argument = command.name, command.argument
        if name == "view":
            self._view(argument)
        elif name == "attach":
            self._take_keys()
        elif name == "detach":
            self._give_keys_back()
        elif name == "find":
            self._find(argument)
        elif name == "maximise":
            self._maximised = not self._maximised
            self._arrange()
        elif name == "copy":
            self.in_turn(partial(self._copy, argument))
        elif name == "theme":
            self._theme(argument)
        elif name == "help":
            app_of(self).push_screen(HelpScreen(self._current, argument, self._remapped))
        elif name == "quit":
            self._quit()

    def _known_panes(self) -> tuple[str, ...]:
        return (*(tab.name for tab in self._tabs), *(["grid"] if self._grid_fits() else []))

    def _view(self, name: str) -> None:
        name = name.removeprefix("vm") if name.removeprefix("vm").isdecimal() else name
        known = self._known_panes()
        if name not in known:
            self._say(f"no pane {name!r}; there are {', '.join(known)}", "error")
            return
        self.view_pane(name)

    def _line_view(self) -> LineView:
        focused = self.focused
        pane = focused if isinstance(focused, LineView) else self._pane(self._console_view)
        assert isinstance(pane, LineView), "consoles are line views"
        return pane

    def _take_keys(self) -> None:
        console = self._line_view()
        if not isinstance(console, SerialConsole):
            console = self._pane(str(self.session.focus))
            assert isinstance(console, SerialConsole), "machines have consoles"
            self.view_pane(str(console.machine))
        self._focus(console)
        console.action_attach()

    def _give_keys_back(self) -> None:
        attached = self._attached()
        if attached is not None:
            attached.detach()

    def _filtering(self) -> SidePane | None:
        """The pane in view, if `find` filters it."""
        pane = self._pane(self._current)
        return pane if isinstance(pane, SidePane) and pane.FILTERS else None

    def _find(self, text: str) -> None:
        filtering = self._filtering()
        if filtering is not None:
            filtering.filter(text)
            return
        self._found = text or self._found
        if not self._found:
            self._say("nothing to search for; write it after /", "error")
            return
        console = self._line_view()
        if console.find(self._found):
            self.query_one(HintBar).show_notice(None)
        else:
            above = " above" if console.selected is not None else ""
            self._say(f"no {self._found!r}{above}", "warning")

    def _copy(self, path: str) -> None:
        moment = self.session.view.moment
        if moment is None:
            self._say("pause first: a moment has a digest only at rest", "error")
            return
        if not path:
            app_of(self).copy_to_clipboard(str(moment))
            self._say(f"{moment}  sent to the terminal's clipboard (OSC 52); if it ignores that: copy FILE")
            return
        try:
            Path(path).expanduser().write_text(f"{moment}\n", encoding="utf-8")
        except (OSError, ValueError) as error:
            self._say(f"{quote(path)}: {reason(error)}", "error")
            return
        self._say(f"{moment.brief} written to {path}")

    def _theme(self, name: str) -> None:
        if not name:
            name = "light" if app_of(self).theme == "dark" else "dark"
        if name not in ("dark", "light"):
            self._say(f"no theme {name!r}; there are dark and light", "error")
            return
        app_of(self).theme = name
        self._colour_titles()
        for console in self.query(LineView):
            console.changed(forget=True)
        self._refresh_panes(self.session.view)

    def _quit(self) -> None:
        unsaved = self.session.unsaved_inputs
        if unsaved:
            app_of(self).push_screen(LeaveScreen(unsaved), self._answered)
        else:
            self._leave(None)

    def _answered(self, answer: str | None) -> None:
        if answer == "leave":
            self._leave(None)
        elif answer == "save":
            self._do_prompt("save", quote(str(Path(state_dir()) / "session.cc")))

    def _leave(self, crash: BaseException | None) -> None:
        leave = getattr(app_of(self), "leave", None)
        assert leave is not None, "the screen belongs to CcApp"
        leave(crash)

    def palette(self) -> Iterator[Entry]:
        """Entries of the command palette."""
        for tab in self._tabs:
            yield Entry(f"view {tab.name}", f"show {tab.label}", partial(self.run_line, f"view {tab.name}"))
        form = f"choose a kind and its fields   key: {self._hint('fault.inject')[0]}"
        yield Entry("inject a fault", form, partial(self._do_inject, ""))
        for spec in SPECS:
            keys = next((self._shown_keys(key) for key in KEYS if key.command == spec.name), "")
            about = f"{spec.summary}   key: {keys}" if keys else spec.summary
            if spec.needs_arguments:
                yield Entry(spec.usage, about, partial(self._do_prompt, spec.name))
            else:
                yield Entry(spec.name, about, partial(self.run_line, spec.name))

    # ---- keys -------------------------------------------------------------------------------------------------------

    def on_key(self) -> None:
        self.query_one(HintBar).show_notice(None)

    def on_paste(self) -> None:
        opens = self._hint("app.command")[0]
        self._say(f"nothing here takes what was pasted; {opens} opens the command line", "warning")

    def action_key(self, key_id: str) -> None:
        self.query_one(HintBar).show_notice(None)
        key = BY_ID[key_id]
        assert isinstance(key, Key), "the main screen binds its own keys"
        if not key.command.startswith("!"):
            self.run_line(key.command)
            return
        name, _, argument = key.command[1:].partition(" ")
        getattr(self, f"_do_{name}")(argument)

    def action_line(self, line: str) -> None:
        self.run_line(line)

    def _do_tab(self, number: str) -> None:
        if int(number) <= len(self._tabs):
            self.view_pane(self._tabs[int(number) - 1].name)

    def _do_prompt(self, kind: str, text: str = "", *, one_word: bool = False) -> None:
        # It takes the hints' row, so that nothing above moves.
        self.query_one(HintBar).display = False
        self.query_one(Prompt).open(kind, text, one_word=one_word)

    def _do_probe(self, _: str) -> None:
        self._do_prompt(f"probe vm{self.session.focus}")

    def _do_search(self, _: str) -> None:
        filtering = self._filtering()
        self._do_prompt("find", filtering.pattern if filtering is not None else "")

    def _do_inject(self, _: str) -> None:
        view = self.session.view
        form = InjectForm(
            self._form_memory, machines=self._machines, focus=self.session.focus,
            where=f"{view.branch.name}@{format_seconds(view.position.vns)}", forks=not view.at_end,
        )  # fmt: skip
        app_of(self).push_screen(form, self._decided)

    def _decided(self, line: str | None) -> None:
        if line:
            self.run_line(line)

    def _do_toggle(self, _: str) -> None:
        if self.saw_work():
            self.stop()
        else:
            self.submit(Toggle())

    def _do_speed(self, by: str) -> None:
        self.submit(Faster(int(by)))

    def _do_cancel(self, _: str) -> None:
        focused = self.focused
        if self.saw_work():
            self.stop()
        elif isinstance(focused, LineView) and not focused.following:
            focused.follow()
        elif isinstance(focused, SidePane) and focused.pattern:
            focused.filter("")
        elif self.at_work:
            self.stop()

    def _do_interrupt(self, _: str) -> None:
        if self.at_work:
            self.stop()
        else:
            self._say(f"nothing is under way; {self._hint('app.quit')[0]} leaves")

    def _do_suspend(self, _: str) -> None:
        app_of(self).action_suspend_process()

    def _do_pane(self, by: str) -> None:
        alone = self._maximised or not self.wide
        if alone:
            names = [tab.name for tab in self._tabs]
            here = self._current if self._current in names else str(self.session.focus)
        else:
            names = [*self._consoles_in_view(), *SIDE_NAMES]
            here = (self._name_of(self.focused) if self.focused is not None else None) or names[0]
        at = names.index(here) if here in names else 0
        name = names[(at + int(by)) % len(names)]
        if alone or name not in self._consoles_in_view() or self._console_view != "grid":
            self.view_pane(name)
        else:
            self._focus(self._pane(name))

    def _do_palette(self, _: str) -> None:
        app_of(self).push_screen(Palette(list(self.palette())), self._chosen)

    def _chosen(self, entry: Entry | None) -> None:
        if entry is not None:
            self.answered(entry.callback)

    # ---- from the panes ---------------------------------------------------------------------------------------------

    @on(TabBar.Chosen)
    def _tab_chosen(self, message: TabBar.Chosen) -> None:
        self.view_pane(message.name)

    @on(Prompt.Entered)
    def _entered(self, message: Prompt.Entered) -> None:
        self.answered(partial(self.run_line, message.line))

    @on(Prompt.Closed)
    def _prompt_closed(self) -> None:
        self.query_one(HintBar).display = True
        self.set_focus(self._pane(self._current))

    @on(SerialConsole.Typed)
    def _typed(self, message: SerialConsole.Typed) -> None:
        self.submit(Type(message.machine, message.data, by_hand=True))

    @on(SerialConsole.Attached)
    def _attachment_changed(self, message: SerialConsole.Attached) -> None:
        if not message.console.attached:
            self.submit(EndTyping())
        self._hints()

    @on(MachinePane.Beside)
    def _machine_beside(self, message: MachinePane.Beside) -> None:
        self.focus_machine((self.session.focus + message.by) % self._machines)

    @on(SerialConsole.Visit)
    def _visit(self, message: SerialConsole.Visit) -> None:
        self.submit(Goto(Place(f"vm{message.machine}#{message.line + 1}")))
        self._line_view().follow()

    @on(LineView.Browsed)
    def _browsed(self) -> None:
        self._hints()

    @on(Ask)
    def _asked(self, message: Ask) -> None:
        if message.question:
            app_of(self).push_screen(ConfirmScreen(message.question, message.line), self._decided)
        else:
            self.run_line(message.line)

    @on(Fill)
    def _to_fill(self, message: Fill) -> None:
        self._do_prompt(message.start, message.word, one_word=True)
