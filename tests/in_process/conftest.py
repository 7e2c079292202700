import os
from collections.abc import Iterator

import pytest

from in_process.rig import Program
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home


@pytest.fixture
def program(home: Home, tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """A home with the API keys of dave and carol at the sandbox, dave's first."""
    monkeypatch.setenv("TOKENFERRY_HOME", os.fspath(home.path))
    program = Program(home, tokenferry_sandbox)
    program.add_key("dave")
    program.add_key("carol")
    yield program
    program.close()
