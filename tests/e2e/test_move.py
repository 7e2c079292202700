"""Logins on their way to Claude Code and back: the real program takes what it is given, and no kill loses a login."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from claude_code.moves.rig import World
from e2e.claude import Claude, is_answered
from e2e.conftest import Tell
from e2e.parties import CHILDREN, SandboxProcess, begin, end, tokenferry, write_config
from e2e.vendor import Vendor, playing_vendor
from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

CONFIG: Final = """[[providers]]
name = "claude-max"
base_url = "{url}"

[providers.oauth]
token_endpoint = "{url}/v1/oauth/token"

[policy]
subscriptions = "{policy}"
"""
FOREIGN: Final = {"mcpOAuth": {"server": {"token": "kept"}}, "unknownThere": [1, None]}
TESTS: Final = Path(__file__).resolve().parents[1]
MANY: Final = 200


@pytest.fixture
def place() -> ClaudeCodeHome:
    """The folder in the throw-away home that both programs find by themselves."""
    person = Path(os.environ["HOME"])
    (person / ".claude").mkdir(mode=0o700)
    return ClaudeCodeHome(person / ".claude")


@pytest.fixture
def vendor(sandbox: SandboxProcess, home: Home, tmp_path: Path) -> Iterator[Vendor]:
    write_config(home, CONFIG.format(url=sandbox.url, policy="claude-code-only"))
    with playing_vendor(sandbox.url, tmp_path) as vendor:
        yield vendor
    assert vendor.refused == []


@pytest.fixture
def claude(place: ClaudeCodeHome, vendor: Vendor) -> Claude:
    return Claude(place.path.parent, vendor.url, vendor.authority)


def add(sandbox: SandboxProcess, name: str, *, expires_in: int = 28_800) -> dict[str, Any]:
    login = sandbox.issue(name, expires_in=expires_in)
    outcome = tokenferry("account", "add", name, "--provider", "claude-max", stdin=json.dumps(login))
    assert outcome.code == 0, outcome
    return login


def move(name: str) -> None:
    outcome = tokenferry("claude-code", "switch", name)
    assert outcome.code == 0, outcome


def section(place: ClaudeCodeHome) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(place.credentials.read_bytes())
    login: dict[str, Any] = document.pop("claudeAiOauth")
    assert document == FOREIGN
    return login


def check_it_works(claude: Claude, place: ClaudeCodeHome, sandbox: SandboxProcess, name: str) -> None:
    code, told = claude.status()
    assert (code, told["loggedIn"], told["authMethod"]) == (0, True, "claude.ai")
    before = len(sandbox.requests("/v1/messages"))
    outcome = end(claude.ask())
    assert is_answered(outcome), outcome
    asked = sandbox.requests("/v1/messages")[before:]
    assert {one["account"] for one in asked} == {name}
    assert {one["status"] for one in asked} == {200}
    assert section(place)["refreshToken"]


def test_it_works_with_each_login_it_is_given_and_no_refresh_is_one_too_many(
    claude: Claude, place: ClaudeCodeHome, vendor: Vendor, sandbox: SandboxProcess
) -> None:
    """Both logins are used up at first: each is renewed by whoever has it, then moved on with what it became."""
    place.credentials.write_text(json.dumps(FOREIGN))
    place.credentials.chmod(0o600)
    given = add(sandbox, "alice", expires_in=-60)
    add(sandbox, "bob", expires_in=-60)

    move("alice")
    check_it_works(claude, place, sandbox, "alice")
    assert len(vendor.granted()) == 1, "it renewed the login itself"
    renewed = section(place)["refreshToken"]
    assert renewed != given["refresh_token"]

    assert tokenferry("refresh", "bob").code == 0
    move("bob")
    check_it_works(claude, place, sandbox, "bob")
    assert tokenferry("refresh", "alice").code == 0
    assert tokenferry("refresh", "bob").code == 6, "Claude Code's login is renewed when it is used up, and not before"

    move("alice")
    check_it_works(claude, place, sandbox, "alice")
    for name, grants in (("alice", 2), ("bob", 1)):
        counters = sandbox.counters(name)
        assert (counters["refreshes"], counters["reuses"], counters["families_revoked"]) == (grants, 0, 0), name
    assert tokenferry("doctor").out.count("account") == 0


def test_a_login_of_its_own_comes_home_and_goes_back_whole(
    claude: Claude, place: ClaudeCodeHome, vendor: Vendor, sandbox: SandboxProcess
) -> None:
    login = sandbox.issue("bob", expires_in=28_800)
    own = {
        "accessToken": login["access_token"],
        "refreshToken": login["refresh_token"],
        "expiresAt": int(time.time() + 28_800) * 1000,
        "scopes": login["scopes"],
        "subscriptionType": "pro",
        "subscriptionTypeSource": "profile",
        "unknownHere": {"kept": True},
        "accountUuid": "11111111-1111-4111-8111-111111111111",
        "organizationUuid": "22222222-2222-4222-8222-222222222222",
    }
    place.credentials.write_text(json.dumps({**FOREIGN, "claudeAiOauth": own}))
    place.credentials.chmod(0o600)
    add(sandbox, "alice")
    outcome = tokenferry("claude-code", "switch", "alice")
    assert outcome.code == 0
    assert "is now account claude-code" in outcome.err
    check_it_works(claude, place, sandbox, "alice")
    move("claude-code")
    assert section(place) == own
    check_it_works(claude, place, sandbox, "bob")


def test_swap_gives_it_the_next_account(
    claude: Claude, place: ClaudeCodeHome, vendor: Vendor, sandbox: SandboxProcess, home: Home
) -> None:
    place.credentials.write_text(json.dumps(FOREIGN))
    place.credentials.chmod(0o600)
    add(sandbox, "alice")
    add(sandbox, "bob", expires_in=100)
    move("alice")
    refused = tokenferry("claude-code", "switch", "--next")
    assert (refused.code, 'subscriptions = "own-use"' in refused.one_sentence()) == (7, True)
    write_config(home, CONFIG.format(url=sandbox.url, policy="own-use"))
    swapped = tokenferry("claude-code", "switch", "--next", "--until", str(int(time.time()) + 600))
    assert (swapped.code, swapped.out, swapped.err) == (0, "bob@example.com\n", "")
    check_it_works(claude, place, sandbox, "bob")
    assert sandbox.counters("bob")["refreshes"] == 1
    again = tokenferry("claude-code", "switch", "--next")
    assert again.code == 6
    assert "All OAuth accounts are rate-limited. Earliest reset in 10 minute(s)" in again.one_sentence()


# -- killed


def child(world: World, what: str, last: int) -> bool:
    """Run a process that moves bob, or recovers, and is killed at that step; tells whether it lived."""
    log = world.home.path / "notes"
    log.unlink(missing_ok=True)
    arguments = [sys.executable, str(CHILDREN / "move.py"), what, "bob", str(last), str(log)]
    person = str(world.claude.path.parent)
    outcome = end(begin(*arguments, PYTHONPATH=str(TESTS), TOKENFERRY_HOME=str(world.home.path), HOME=person))
    lived = "done" in log.read_text()
    assert outcome.code == (0 if lived else -signal.SIGKILL), outcome
    return lived


def test_killed_at_any_step_every_login_lives_in_one_place_and_the_next_process_goes_on(
    tmp_path: Path, tell: Tell
) -> None:
    ends: Counter[str | None] = Counter()
    for last in count(1):
        world = World(tmp_path / str(last), has_ids=last % 2 == 0)
        world.add("alice")
        world.add("bob")
        world.mover().move("alice")
        world.claude_renews()
        if child(world, "move", last):
            break
        assert last < MANY
        if last % 3 == 0:
            world.claude_renews()
        world.check_readers()
        assert child(world, "recover", 0)
        ends[world.claude_has()] += 1
        assert world.mover().pending() is None
        world.check({"alice": "alice", "bob": "bob"})
        assert child(world, "move", 0)
        world.check({"alice": "alice", "bob": "bob"})
        assert world.claude_has() == "bob"
    tell(f"kills of a move: {last - 1}, after which Claude Code had {dict(ends)}")
    assert min(ends["alice"], ends["bob"]) > 0
