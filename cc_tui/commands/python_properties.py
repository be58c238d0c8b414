"""Properties written in Python: a name in a file, given to `check` as FILE.py:NAME.

The name is one of

    def NAME(event, memory)     asked of every event; `memory` is a dictionary of its own
    def NAME(vm)                asked at an address, of the machine that is about to execute the instruction there
    class NAME                  a HostProperty, or an EventObserver as scenarios have (chaoscontrol.oracle), made anew
                                for each branch

A function answers True, False, a line of text (no, and why), or None: it has nothing to say of this one. The file is
run as it is: it can do whatever its user can.
"""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cc_tui.commands.engine import reason
from cc_tui.commands.language import CommandError, quote
from chaoscontrol.debug.hindsight import KINDS, Answer, Judged, ask_of_events, judge, tell_all
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.scenario import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

    from cc_tui.commands.condition import Words
    from chaoscontrol.events import Event
    from chaoscontrol.machine import DeterministicVm
    from chaoscontrol.timetravel import Told

_WRITTEN = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class PythonProperty:
    """As it was written; the file is read when it is needed."""

    path: str
    name: str

    @classmethod
    def read(cls, words: Words) -> PythonProperty | None:
        """The next word, if it is one."""
        match = words.next_if(_WRITTEN)
        return None if match is None else cls(match["path"], match["name"])

    @property
    def text(self) -> str:
        return quote(f"{self.path}:{self.name}")

    def judge(self, told: Told, kind: str | None, name: str) -> list[Judged]:
        """How it stands on a branch. kind: one of hindsight.KINDS, None if none was given. Raises CommandError."""
        module, found = self._load()
        if not isinstance(found, type):
            evaluations = ask_of_events(told, self._of_events(found))
            return [judge(name, KINDS[kind or "always"], told.branch, evaluations)]
        if kind is not None:
            raise CommandError(f"{self.text} is a class, and says itself what must hold", hint="leave out the kind")
        with self._blamed():
            return tell_all(told, found() if hasattr(found, "on_event") else observed(module, self.name))

    def at_hits(self, vm: DeterministicVm) -> Callable[[], Answer | None]:
        """The question, to be asked of a machine where it stands. Raises CommandError."""
        _, found = self._load()
        if isinstance(found, type):
            raise CommandError(f"{self.text} is a class; at an address a function is asked", hint="def NAME(vm)")

        def question() -> Answer | None:
            with self._blamed():
                return self._answer(found(vm), "")

        return question

    def _of_events(self, function: Any) -> Callable[[Event], Answer | None]:
        memory: dict[str, object] = {}

        def question(event: Event) -> Answer | None:
            with self._blamed():
                return self._answer(function(event, memory), event.text)

        return question

    def _answer(self, reply: object, about: str) -> Answer | None:
        if reply is None:
            return None
        if isinstance(reply, str):
            return Answer(False, reply)
        if isinstance(reply, bool):
            return Answer(reply, about)
        raise CommandError(f"{self.text} answers {reply!r}", hint="True, False, a line of text, or None")

    def _load(self) -> tuple[ModuleType, Any]:
        """The file's module, run anew, and what the name means in it."""
        path = Path(self.path).expanduser()
        spec = spec_from_file_location(f"_checked_{path.stem}", path)
        assert spec is not None and spec.loader is not None, "its name ends with .py"
        module = module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        try:
            with self._blamed():
                spec.loader.exec_module(module)
        finally:
            del sys.modules[spec.name]
        found = getattr(module, self.name, None)
        if not callable(found):
            raise CommandError(f"there is no function or class {self.name!r}", where=quote(self.path))
        return module, found

    @contextmanager
    def _blamed(self) -> Generator[None]:
        """Makes what the file raises one line that says where."""
        try:
            yield
        except ChaosControlError:
            raise
        except SyntaxError as error:
            raise CommandError(f"{error.msg}", where=f"{self.path}:{error.lineno}") from None
        except OSError as error:
            raise CommandError(reason(error), where=quote(self.path), hint="give a Python file") from None
        except Exception as error:
            own = str(Path(self.path).expanduser())
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
            where = f"{self.path}:{lines[-1]}" if lines else self.text
            raise CommandError(f"{type(error).__name__}: {error}", where=where) from None


__all__ = ["PythonProperty"]
