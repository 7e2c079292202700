from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tokenferry.config import Config, load

Write = Callable[..., Config]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes config.toml and loads it."""

    def write(text: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        return load(path, environ={} if environ is None else environ)

    return write
