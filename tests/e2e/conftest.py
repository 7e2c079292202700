"""Every party runs as a process, on a port of its own, in a throw-away home."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from e2e.issuer import Issuer, running_issuer
from e2e.parties import SandboxProcess, Server, end_all, running, tokenferry, write_config
from e2e.postgres import connections, postgres, postgres_servers
from tokenferry.settings import Home

__all__ = ["connections", "postgres", "postgres_servers"]

AddLogin: TypeAlias = Callable[..., dict[str, Any]]
Tell: TypeAlias = Callable[[str], None]

_told: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests measured."""
    if _told:
        terminalreporter.section("figures")
        for line in _told:
            terminalreporter.line(line)


@pytest.fixture
def tell() -> Tell:
    """Keep a measured figure for the end of the run."""
    return _told.append


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def sandbox(home: Home, tmp_path: Path) -> Iterator[SandboxProcess]:
    """A fake provider that the home's provider `sandbox` means."""
    with running("sandbox", tmp_path) as server:
        write_config(home, f'[[providers]]\nname = "sandbox"\nbase_url = "{server.url}"\n')
        yield SandboxProcess(server.url)


@pytest.fixture
def add_login(sandbox: SandboxProcess) -> AddLogin:
    """Add an account of the sandbox through the command; by default its access token expired an hour ago."""

    def add(name: str = "alice", *, expires_in: int = -3600) -> dict[str, Any]:
        login = sandbox.issue(name, expires_in=expires_in)
        outcome = tokenferry("account", "add", name, "--provider", "sandbox", stdin=json.dumps(login))
        assert outcome.code == 0, outcome.err
        return login

    return add


@pytest.fixture
def gateway(sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path) -> Iterator[Server]:
    """A gateway in front of the sandbox, with the account `alice`, whose access token has expired."""
    add_login("alice")
    with running("serve", tmp_path) as server:
        yield server


@pytest.fixture
def key(gateway: Server) -> str:
    """The gateway's local client key."""
    outcome = tokenferry("token", "--gateway")
    assert outcome.code == 0, outcome.err
    return outcome.out.strip()


@pytest.fixture
def issuer(home: Home, tmp_path: Path) -> Iterator[Issuer]:
    """An independent authorization server that the home's provider `idp` means."""
    with running_issuer(tmp_path) as issuer:
        issuer.configure(home)
        yield issuer
