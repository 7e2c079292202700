"""Reloads under load: the upstream moves, files are bad between, HUPs come in storms, and no request fails."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.conftest import Tell
from e2e.load import Load, Origin, running_origin
from e2e.parties import running, tokenferry
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ROUNDS: Final = 24
BAD: Final = ("[server]\nport = 99999\n", "[server\n", "[[providers]]\nname = 5\n")


@pytest.fixture
def origins(home: Home) -> Iterator[tuple[Origin, Origin]]:
    """Two places at which one provider is to be found."""
    with running_origin() as one, running_origin() as other:
        put(home, place(one, 0))
        added = tokenferry("account", "add", "a", "--provider", "origin", "--kind", "api-key", stdin="sk-ant-api03-a")
        assert added.code == 0, added.err
        yield one, other


def place(origin: Origin, number: int) -> str:
    return (
        f'[server]\nallowed_hosts = ["h{number}.lan"]\nlog_level = "{("info", "warning")[number % 2]}"\n'
        f"[upstream]\nmax_connections = {100 + number % 3}\n"
        f'[[providers]]\nname = "origin"\nbase_url = "{origin.url}"\n'
    )


def put(home: Home, text: str) -> None:
    """Put the file in place as an editor does."""
    new = home.config.with_name("new.toml")
    new.touch(0o600)
    new.write_text(text)
    new.replace(home.config)


def check_whole(told: dict[str, Any], count: int) -> None:
    assert (told["whole"], told["wrong"], told["cut"], told["unanswered"]) == (count, 0, 0, 0), told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reloads_under_load_lose_no_request(
    origins: tuple[Origin, Origin], home: Home, tmp_path: Path, tell: Tell, workers: str
) -> None:
    requests = 6000
    job = {"connections": 16, "requests": requests, "answer": "document 2048"}
    with running("serve", tmp_path, "--workers", workers) as gateway, contextlib.ExitStack() as stack:
        key = tokenferry("token", "--gateway").out.strip()
        streams = stack.enter_context(
            Load(gateway.url, key, connections=20, requests=20, answer="stream SEED 20 20 held")
        )
        origins[0].wait(lambda figures: figures["held"] == 20, "the streams have begun")
        load = stack.enter_context(Load(gateway.url, key, **job))
        number = 0
        while load.process.poll() is None and number < ROUNDS:
            number += 1
            there = origins[number % 2]
            before = there.figures()["answered"]
            put(home, place(there, number))
            for _ in range(1 if number % 3 else 25):
                gateway.process.send_signal(signal.SIGHUP)
            while there.figures()["answered"] == before and load.process.poll() is None:
                pass  # requests will go where the provider is now
            put(home, BAD[number % len(BAD)])
            gateway.process.send_signal(signal.SIGHUP)
        told = load.end()
        check_whole(told, requests)
        put(home, place(origins[0], 0))
        gateway.process.send_signal(signal.SIGHUP)
        origins[0].release()
        check_whole(streams.end(), 20)
        check_whole(Load(gateway.url, key, connections=4, requests=40, answer="document 2048").end(), 40)
    figures = [origin.figures() for origin in origins]
    assert [one["lost"] + one["wrong"] for one in figures] == [0, 0]
    assert sum(one["answered"] for one in figures) == requests + 60
    assert all(one["answered"] > 0 for one in figures)
    assert "is not followed" in gateway.log.read_text()
    moves = f"{number} moves of the upstream in {told['seconds']:.0f} s"
    tell(f"{workers} worker(s): {moves}, {requests} requests, none lost")
