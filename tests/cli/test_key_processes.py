"""Keys made, revoked and changed by one process, as a gateway in another one takes them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.harness import Outcome, begin, end, eventually, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import State

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]
Ask = Callable[[str], int]


def models(port_file: Path, key: str) -> int:
    """The status of a request over a new connection, which any worker may get."""
    url = f"http://127.0.0.1:{port_file.read_text().strip()}/v1/models"
    return httpx2.get(url, headers={"x-api-key": key, "anthropic-version": "2023-06-01"}, trust_env=False).status_code


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def ask(sandbox: Sandbox, login: Login, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Ask a running gateway for its models with a key."""
    login()
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file), "--workers", str(request.param))
    eventually(lambda: file.exists() or process.poll() is not None)
    yield partial(models, file)
    process.terminate()
    assert end(process).code == 0


def is_refused_by_all(ask: Ask, key: str) -> bool:
    return all(ask(key) == 401 for _ in range(8))


def test_a_new_key_works_at_once_and_a_revoked_one_stops(ask: Ask, inside: Inside) -> None:
    for number in range(5):
        key = inside("key", "create", f"k{number}").out.strip()
        assert [ask(key) for _ in range(4)] == [200] * 4, "in every worker, at the first request"
        assert inside("key", "rename", f"k{number}", f"r{number}").code == 0
        assert ask(key) == 200
        assert inside("key", "revoke", f"r{number}").code == 0
        eventually(partial(is_refused_by_all, ask, key))


def test_the_last_use_is_known_when_the_gateway_has_ended(
    sandbox: Sandbox, login: Login, home: Home, tmp_path: Path, inside: Inside
) -> None:
    login()
    key = inside("key", "create", "laptop").out.strip()
    file = tmp_path / "port"
    process = begin("serve", "--port", "0", "--port-file", str(file))
    eventually(file.exists)
    assert models(file, key) == 200
    process.terminate()
    assert end(process).code == 0
    used = {one["name"]: one["last_used_at"] for one in inside("key", "list", "--json").json}
    assert used["laptop"] is not None
    assert used["local"] is None


def test_many_processes_that_change_keys_at_once_lose_nothing(home: Home) -> None:
    program = (
        "import pathlib, sys; from tokenferry.state import State\n"
        "path, name = pathlib.Path(sys.argv[1]), sys.argv[2]\n"
        "for number in range(10):\n"
        "    with State(path) as state:\n"
        "        _, secret = state.keys.create(f'{name}-{number}', labels={'by': name})\n"
        "        assert state.keys.verify(secret.reveal())\n"
        "        state.keys.record_use()\n"
        "        if number % 2: state.keys.revoke(f'{name}-{number}')\n"
        "        else: state.keys.rename(f'{name}-{number}', f'{name}.{number}')\n"
    )
    with State(home.state) as watching:
        workers = [
            subprocess.Popen([sys.executable, "-c", program, str(home.state), name], stderr=subprocess.PIPE, text=True)
            for name in ("a", "b", "c", "d")
        ]
        for worker in workers:
            _, said = worker.communicate(timeout=60)
            assert worker.returncode == 0, said
        keys = watching.keys.list()
        assert len(keys) == 40
        live = sorted(key.name for key in keys if key.revoked_at is None)
        assert live == sorted(f"{name}.{number}" for name in "abcd" for number in range(0, 10, 2))
        assert all(key.last_used_at is not None for key in keys)


def test_a_database_that_breaks_while_the_gateway_runs_stops_no_client(ask: Ask, home: Home, inside: Inside) -> None:
    key = inside("token", "--gateway").out.strip()  # which every worker knows from its start
    assert ask(key) == 200
    with home.state.open("r+b") as file:
        file.write(b"\0" * home.state.stat().st_size)
    home.state.with_name("state.db-wal").write_bytes(b"")
    assert [ask(key) for _ in range(3)] == [200] * 3
    assert tokenferry("key", "create", "other").code in {1, 8}
    assert ask(key) == 200
    assert ask("tfk_" + "x" * 43) == 401
