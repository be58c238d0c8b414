"""Texts that people write, TOML and regular expressions: whatever is wrong with one is a ValueError of one line.

Python's own readers say more than that: numbers of thousands of digits, brackets in brackets beyond the interpreter's
depth and repetitions beyond an integer each have an exception of their own.
"""

from __future__ import annotations

import re
import tomllib
import warnings
from functools import lru_cache
from typing import Any


def read_toml(text: str | bytes) -> dict[str, Any]:
    """What a TOML text says, in UTF-8 if it is bytes. Raises ValueError: "not TOML: ..."."""
    try:
        return tomllib.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as e:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"not TOML: {_line(e)}") from None


@lru_cache(maxsize=256)  # it is asked for every line of a console; minding the warnings costs more than the search
def compile_pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression. Raises ValueError that says what is wrong with it.

    What Python warns of, that "[[" may mean something else one day, is nothing to tell a person who wrote a pattern.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as e:
        raise ValueError(_line(e)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
