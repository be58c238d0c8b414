"""What can be wrong with a recording."""

from __future__ import annotations

from chaoscontrol.errors import EngineError


class RecordingError(EngineError):
    """A recording cannot be read, written or replayed. (Exit code 3.)

    `offset` is the byte of the file at which the frame begins that is at fault; None if none is.
    """

    def __init__(self, what: str, *, path: str = "", offset: int | None = None, hint: str = "") -> None:
        where = path if offset is None else f"{path}, byte {offset}"
        super().__init__(what, where=where, hint=hint)
        self.path = path
        self.offset = offset

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.path, self.offset, self.hint)


def _rebuild(what: str, path: str, offset: int | None, hint: str) -> RecordingError:
    return RecordingError(what, path=path, offset=offset, hint=hint)
