import asyncio
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tokenferry
from refresh.rig import PATIENCE, sandbox_login, sandbox_providers
from tokenferry.broker import Broker
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.stores import FileStore

API = Path(__file__).with_name("api.py")


@pytest.fixture
def broker(home: Home, tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """Alice's, and the default one."""
    sandbox_login(FileStore(home), tokenferry_sandbox, expires_in=28_800)
    broker = Broker(home=home, providers=sandbox_providers(tokenferry_sandbox))
    monkeypatch.setattr("tokenferry.broker._default.Default.broker", broker)
    yield broker
    assert broker.drain(PATIENCE)


def log_in(url: str) -> str:
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        page = browser.get(f"{url}&login_hint=bob")
    found = re.search(r"[\w-]+#[0-9a-f]{64}", page.text)
    assert found
    return found[0]


def test_what_the_type_checker_takes_runs(
    broker: Broker, home: Home, tokenferry_sandbox: Sandbox, tmp_path: Path
) -> None:
    api: dict[str, Any] = runpy.run_path(str(API))
    api["default_broker"]()
    asyncio.run(api["default_broker_async"]())
    assert api["kinds"](tokenferry.resolve("alice")) == "login"
    api["secrets"]()
    own = api["own_store"](broker.providers)
    assert api["kinds"](own.resolve()) == "key"
    assert api["own_settings"](tmp_path / "elsewhere", broker.providers).accounts() == []
    api["next_account"]()
    api["accounts"](broker, log_in)
    message, code, retry_after = api["errors"]()
    assert "tokenferry account list" in message
    assert (code, retry_after) == (4, None)
    api["clients"](broker, tokenferry_sandbox.url)
    asyncio.run(api["async_clients"](broker, tokenferry_sandbox.url))
    configuration = f'[[providers]]\nname = "sandbox"\nbase_url = "{tokenferry_sandbox.url}"\n'
    home.config.write_text(configuration)
    home.config.chmod(0o600)
    api["in_this_process"](tokenferry_sandbox.url)
    asyncio.run(api["in_this_process_on_asyncio"](tokenferry_sandbox.url))
    api["private_gateway"]()


def test_every_public_name_is_used(broker: Broker) -> None:
    source = API.read_text(encoding="utf-8")
    assert [name for name in tokenferry.__all__ if name not in source] == []
