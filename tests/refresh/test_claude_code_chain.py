"""What several processes, each a broker here, know of one chain of Claude Code's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refresh.rig import NAME, PATIENCE, START, Rig, value
from tokenferry.broker import Broker
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore
from tokenferry.errors import CredentialRefused, TryLater
from tokenferry.oauth import HttpOutcome, TokenRequest
from tokenferry.refresh import FileJournal, RefreshRequest
from tokenferry.settings import Home, PolicySettings
from tokenferry.stores import Account

ACCOUNT = Account(NAME, "fake", "oauth", owner="claude-code", store="claude-code")


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


@pytest.fixture
def place(tmp_path: Path) -> ClaudeCodeHome:
    """A login that is used up."""
    folder = tmp_path / "person" / ".claude"
    folder.mkdir(mode=0o700)
    login = {"accessToken": "access-0", "refreshToken": "refresh-0", "expiresAt": int(START - 10) * 1000}
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))
    (folder / ".credentials.json").chmod(0o600)
    return ClaudeCodeHome(folder)


def process(rig: Rig, place: ClaudeCodeHome, **changes: Any) -> Broker:
    return rig.broker(
        store=ClaudeCodeStore(ACCOUNT, place, rig.home.locks),
        journal=FileJournal(rig.home.journal),
        policy=PolicySettings(subscriptions="own-use"),
        **changes,
    )


def test_a_token_that_another_process_was_just_granted_is_not_renewed_because_it_is_refused(
    rig: Rig, place: ClaudeCodeHome
) -> None:
    assert value(process(rig, place).resolve(NAME)) == "access-1"
    other = process(rig, place)
    credential = other.resolve(NAME)
    assert other.was_just_granted(credential)
    other.invalidate(NAME, credential.secret)
    with pytest.raises(CredentialRefused, match="refuses a token it granted 0 seconds ago"):
        other.resolve(NAME)
    assert rig.endpoint.requests == 1
    rig.clock.advance(60)
    assert value(other.resolve(NAME)) == "access-2"


def test_a_token_that_claude_code_put_there_is_renewed_at_once_when_it_is_refused(
    rig: Rig, place: ClaudeCodeHome
) -> None:
    login = {"accessToken": "access-9", "refreshToken": "refresh-9", "expiresAt": int(START + 3600) * 1000}
    place.credentials.write_text(json.dumps({"claudeAiOauth": login}))
    broker = process(rig, place)
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.presented == ["refresh-9"]


@pytest.mark.parametrize("left", [1, 0])
def test_its_token_is_renewed_once_it_has_ended_and_within_20_seconds(
    rig: Rig, place: ClaudeCodeHome, left: int
) -> None:
    """Claude Code gives up on a lock that is held for 33 seconds."""
    login = {"accessToken": "access-9", "refreshToken": "refresh-9", "expiresAt": int(START + left) * 1000}
    place.credentials.write_text(json.dumps({"claudeAiOauth": login}))
    allowed: list[float] = []

    def send(request: TokenRequest, timeout: float, sending: Callable[[], None]) -> HttpOutcome:
        allowed.append(timeout)
        return rig.endpoint(request, timeout, sending)

    flight = process(rig, place, send=send)._engine.start(RefreshRequest(NAME, needs=60))
    if left:
        with pytest.raises(TryLater, match="has 1 seconds left"):
            flight.future.result(PATIENCE)
    else:
        assert value(flight.future.result(PATIENCE).document.credential) == "access-1"
    assert allowed == ([] if left else [20.0])
