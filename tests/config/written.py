"""What each test of a configuration asks of it."""

from collections.abc import Callable, Mapping

import pytest

from tokenferry.config import Config
from tokenferry.errors import ConfigError

Write = Callable[..., Config]


def problems(write: Write, text: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        write(text, environ)
    assert str(caught.value).splitlines()[1:] == [f"  {problem}" for problem in caught.value.problems]
    return caught.value.problems


def notes(config: Config) -> list[str]:
    """The warnings, without the path of the file."""
    return [warning.partition(": ")[2] for warning in config.warnings]
