"""The examples of the library's page run as they stand, but for the sandbox's address."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresh.rig import PATIENCE, put, sandbox_login
from tokenferry.broker import default_broker
from tokenferry.sandbox import DEFAULT_PORT, Sandbox
from tokenferry.settings import Home
from tokenferry.stores import FileStore

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.fixture
def _work(home: Home, tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the page's two commands do: the sandbox, and its alice as the account `work`."""
    url = tokenferry_sandbox.url
    home.config.write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{url}"\n')
    home.config.chmod(0o600)
    store = FileStore(home)
    sandbox_login(store, tokenferry_sandbox, expires_in=28_800)
    alice = store.read("alice")
    put(store, type(alice)(type(alice.account)("work", "sandbox", "oauth"), alice.credential, machine=alice.machine))
    store.swap("alice", alice.generation, None)
    monkeypatch.setattr("tokenferry.broker._default.Default.broker", None)
    yield
    assert default_broker().drain(PATIENCE)


@pytest.mark.usefixtures("_work")
def test_the_examples_run(tokenferry_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert str(DEFAULT_PORT) in page
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 12
    scope: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks):
        source = block.replace(f"http://127.0.0.1:{DEFAULT_PORT}", tokenferry_sandbox.url)
        exec(compile(source, f"{PAGE.name}, block {number}", "exec"), scope)
    told = capsys.readouterr().out
    assert "Hello from the sandbox" in told
    assert "there is no account 'nobody'; there is work (see: tokenferry account list)" in told
    assert "http://127.0.0.1:" in told
    assert "/login" in told
    assert "sk-ant-oat" not in told
    statuses = {each["status"] for each in tokenferry_sandbox.requests()}
    assert statuses == {200}
