"""Shared by `model` and `provider`: change a list in config.toml if the result is valid."""

from collections.abc import Callable
from pathlib import Path

from tokenferry.config import examine_content, read_content, write_content
from tokenferry.errors import ConfigError
from tokenferry.settings import Home


def edit_config(home: Home, change: Callable[[bytes, Path], bytes]) -> None:
    """Write the content that `change` returns for the file. Raises `ConfigError`, `StorageFailed`, `Conflict`."""
    before = read_content(home.config)
    content = change(before or b"", home.config)
    if problems := examine_content(content, home.config).problems:
        raise ConfigError(f"nothing was written, because {home.config} would be invalid:", problems)
    write_content(home.config, content, before, home.locks)
