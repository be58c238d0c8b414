"""Choice: an enumeration of integers, for the modules that every start of the program imports.

To type checkers it is enum.Enum, of which it is the part that is needed there: members by attribute, value, name and
iteration, each one object, with the methods of the class. The standard one costs a process 9 ms of CPU time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum as Choice
else:

    class _ChoiceType(type):
        """Makes the integers in a class's body its members."""

        def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> None:
            super().__init__(name, bases, namespace)
            cls._members = {}
            for key, value in namespace.items():
                if type(value) is int:
                    member = object.__new__(cls)
                    member.name, member.value = key, value
                    cls._members[value] = member
                    setattr(cls, key, member)

        def __call__(cls, value: int) -> Choice:
            try:
                return cls._members[value]
            except KeyError:
                raise ValueError(f"{value!r} is not a valid {cls.__name__}") from None

        def __getitem__(cls, name: str) -> Choice:
            for member in cls:
                if member.name == name:
                    return member
            raise KeyError(name)

        def __iter__(cls) -> Iterator[Choice]:
            return iter(cls._members.values())

    class Choice(metaclass=_ChoiceType):
        """Base of such enumerations."""

        def __repr__(self) -> str:
            return f"<{self}: {self.value}>"

        def __str__(self) -> str:
            return f"{type(self).__name__}.{self.name}"

        def __reduce__(self) -> tuple[type, tuple[int]]:
            return type(self), (self.value,)


__all__ = ["Choice"]
