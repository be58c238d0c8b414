"""Record: an immutable value with named fields, for the modules that every start of the program imports.

Used, printed and checked (also by type checkers) like a frozen dataclass with slots, of which it is the part that is
needed there. The standard one costs a process about 20 ms of CPU time before its first value: it imports inspect, and
compiles every class's methods from text. Elsewhere use dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost 4 ms; checkers know the name
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        return lambda decorated: decorated


@dataclass_transform(frozen_default=True)
class _RecordType(type):
    """Makes a class's annotations its fields, in order; the values beside them are defaults."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        assert len(bases) == 0 or bases == (Record,), "fields are not inherited"
        fields = tuple(namespace.get("__annotations__", ()))
        namespace["_defaults"] = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["__slots__"] = namespace["__match_args__"] = fields
        return super().__new__(mcs, name, bases, namespace)


class Record(metaclass=_RecordType):
    """Base of such values; they may define `__post_init__` to check themselves."""

    if TYPE_CHECKING:
        __match_args__: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]
    else:

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            names = self.__match_args__
            if len(args) > len(names):
                raise TypeError(f"{type(self).__name__}() takes {len(names)} values, {len(args)} were given")
            given = dict(zip(names, args, strict=False))
            for name, value in kwargs.items():
                if name not in names or name in given:
                    fault = "twice" if name in given else "but has no such field"
                    raise TypeError(f"{type(self).__name__}() was given {name!r} {fault}")
                given[name] = value
            for name in names:
                try:
                    value = given[name] if name in given else self._defaults[name]
                except KeyError:
                    raise TypeError(f"{type(self).__name__}() needs a value for {name!r}") from None
                object.__setattr__(self, name, value)
            self.__post_init__()

    def __post_init__(self) -> None:
        pass

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in order."""
        return dict(zip(self.__match_args__, self._values(), strict=True))

    def replace(self, **changes: Any) -> Self:
        """A copy with the named fields changed."""
        return type(self)(**{**self.as_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return self._values().__hash__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items())})"

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self._values()
