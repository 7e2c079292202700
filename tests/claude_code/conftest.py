from pathlib import Path

import pytest

from tokenferry.claude_code import ClaudeCodeHome


@pytest.fixture
def claude(tmp_path: Path) -> ClaudeCodeHome:
    """An empty folder of Claude Code."""
    path = tmp_path / "person" / ".claude"
    path.mkdir(mode=0o700)
    return ClaudeCodeHome(path)


@pytest.fixture
def locks(home: object, tmp_path: Path) -> Path:
    """The folder of our own locks."""
    return tmp_path / "home" / "locks"
