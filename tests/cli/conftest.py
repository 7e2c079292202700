from collections.abc import Callable, Iterator
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest

from cli.harness import Outcome, bundle, end_all
from tokenferry.cli import _home
from tokenferry.cli._run import run
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process that a test began outlives it."""
    yield
    end_all()


@pytest.fixture
def free_port(home: Home) -> None:
    """Let the gateway take any port: `doctor` says if another program has the usual one."""
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.config.write_text("[server]\nport = 0\n")
    home.config.chmod(0o600)


@pytest.fixture
def sandbox(home: Home, tokenferry_sandbox: Sandbox) -> Sandbox:
    """A fake provider that the home's provider `sandbox` means."""
    configure(home, tokenferry_sandbox.url)
    return tokenferry_sandbox


def configure(home: Home, url: str, more: str = "") -> None:
    home.config.write_text(f'{more}\n[[providers]]\nname = "sandbox"\nbase_url = "{url}"\n')
    home.config.chmod(0o600)


@pytest.fixture
def login(sandbox: Sandbox, inside: Callable[..., Outcome]) -> Callable[..., dict[str, Any]]:
    """Add an account of the sandbox as an OAuth login, and give the login."""

    def add(name: str = "work", of: str = "alice", expires_in: int = 28_800) -> dict[str, Any]:
        issued = sandbox.issue(of, expires_in=expires_in)
        outcome = inside("account", "add", name, "--provider", "sandbox", stdin=bundle(issued))
        assert outcome.code == 0, outcome.err
        return issued

    return add


@pytest.fixture
def inside(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """Run a command in this process, where that is quicker and as good."""

    def call(*arguments: str, stdin: str | None = None) -> Outcome:
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            if stdin is not None:
                patch.setattr("sys.stdin", TextIOWrapper(BytesIO(stdin.encode())))
            code = run(list(arguments))
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    yield call
    _home.forget()


@pytest.fixture
def registered(home: Home) -> Iterator[GatewayRegistration]:
    """A record of a gateway at the usual address, as if this process were one."""
    registration = GatewayRegistration(home, url="http://127.0.0.1:13456")
    yield registration
    registration.end()
