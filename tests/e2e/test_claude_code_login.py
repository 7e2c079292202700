"""The real Claude Code beside our store of its login: emptied environment, throw-away home, no way out."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from claude_code.rig import ACCOUNT, STUB, document, holding, renewed, section, write
from e2e.claude import Claude, is_answered
from e2e.parties import SandboxProcess, end, eventually
from e2e.recorder import ClosedDoor, closed_door
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, ClaudeCodeStore, LockTiming
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LockTimeout
from tokenferry.secret import Secret

pytestmark = pytest.mark.e2e

WHILE: Final = 4.0


@pytest.fixture
def theirs(tmp_path: Path) -> ClaudeCodeHome:
    path = tmp_path / "claude" / ".claude"
    path.mkdir(parents=True, mode=0o700)
    return ClaudeCodeHome(path)


@pytest.fixture
def door() -> Iterator[ClosedDoor]:
    with closed_door() as door:
        yield door


@pytest.fixture
def claude(theirs: ClaudeCodeHome, door: ClosedDoor) -> Claude:
    return Claude(theirs.path.parent, door.url)


@pytest.fixture
def store(theirs: ClaudeCodeHome, tmp_path: Path) -> ClaudeCodeStore:
    return ClaudeCodeStore(ACCOUNT, theirs, tmp_path / "locks")


@pytest.mark.parametrize("before", [None, document(STUB), document(mcpOAuth={}, other=[1]), document(section(odd=1))])
def test_it_takes_what_we_write_for_a_login(
    claude: Claude, theirs: ClaudeCodeHome, store: ClaudeCodeStore, before: bytes | None
) -> None:
    if before:
        write(theirs.credentials, before)
    expected = store.read("mine").generation if store.names() else None
    with store.exclusive("mine", 5):
        store.swap("mine", expected, holding(renewed(expires_at=int(time.time()) + 28800)))
    code, told = claude.status()
    assert (code, told["loggedIn"], told["subscriptionType"]) == (0, True, "max")
    assert store.read("mine").credential.secret == renewed().secret


@pytest.mark.parametrize("content", [None, b"{}", document(STUB), b"{"])
def test_what_is_no_login_to_us_is_none_to_it(
    claude: Claude, theirs: ClaudeCodeHome, store: ClaudeCodeStore, content: bytes | None
) -> None:
    if content is not None:
        write(theirs.credentials, content)
    code, told = claude.status()
    assert (code, told["loggedIn"]) == (1, False)
    assert store.status().state not in {"logged-in", "no-refresh-token"}


def expired(theirs: ClaudeCodeHome) -> None:
    write(theirs.credentials, document(section(expiresAt=int(time.time() * 1000) - 60_000), mcpOAuth={"a": {"b": 1}}))


def test_it_waits_while_we_refresh_and_uses_what_we_wrote(
    claude: Claude, door: ClosedDoor, theirs: ClaudeCodeHome, store: ClaudeCodeStore, sandbox: SandboxProcess
) -> None:
    expired(theirs)
    given = sandbox.issue("alice", expires_in=28800)
    token = OAuthToken(
        Secret(given["access_token"]), Secret(given["refresh_token"]), int(time.time()) + 28800, ("user:inference",)
    )
    with store.exclusive("mine", 5):
        generation = store.read("mine").generation
        process = claude.begin("-p", "hi", ANTHROPIC_BASE_URL=sandbox.url)
        threading.Event().wait(WHILE)  # nothing tells that it waits, but the door that stays closed
        assert process.poll() is None
        assert sandbox.requests("/v1/messages") == []
        store.swap("mine", generation, holding(token))
    outcome = end(process)
    assert is_answered(outcome), outcome
    assert {one["status"] for one in sandbox.requests("/v1/messages")} == {200}
    assert door.asked == [], "a refresh of its own would have asked for its token endpoint"
    assert sandbox.counters()["refreshes"] == 0
    assert store.read("mine").credential.secret == token.secret
    assert json.loads(theirs.credentials.read_bytes())["mcpOAuth"] == {"a": {"b": 1}}


def test_while_it_refreshes_we_wait_and_what_it_leaves_when_killed_we_take_over(
    claude: Claude, theirs: ClaudeCodeHome, store: ClaudeCodeStore, tmp_path: Path
) -> None:
    expired(theirs)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers
        process = claude.begin("-p", "hi", proxy=f"http://127.0.0.1:{mute.getsockname()[1]}")
        try:
            eventually(theirs.refresh_lock_owner.exists, "it refreshes")
            with pytest.raises(LockTimeout) as caught:
                store.lock("mine").acquire(0.1)
            assert caught.value.holder == f"Claude Code (process {process.pid})"
        finally:
            process.kill()
            process.communicate()
    assert (theirs.refresh_lock.is_dir(), theirs.folder_lock.is_dir()) == (True, True)
    lock = ClaudeCodeLock(theirs, tmp_path / "locks", timing=LockTiming(stale=0.5))
    lock.acquire(30)
    assert lock.is_still_ours()
    lock.release()
    assert store.status().state == "logged-in"
