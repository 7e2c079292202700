"""What each test of a configuration asks of it."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from tokenferry.config import Config
from tokenferry.errors import ConfigError

Write = Callable[..., Config]
LINE: Final = re.compile(r"^line [0-9]+: ")


def problems(write: Write, text: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The faults of a file, without their lines."""
    with pytest.raises(ConfigError) as caught:
        write(text, environ)
    assert str(caught.value).splitlines()[1:] == [f"  {problem}" for problem in caught.value.problems]
    return tuple(LINE.sub("", problem) for problem in caught.value.problems)


def notes(config: Config) -> list[str]:
    """The warnings, without the path of the file."""
    return [warning.partition(": ")[2] for warning in config.warnings]
