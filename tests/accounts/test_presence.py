import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.accounts import Presence, Surroundings, find_presences, read_presence
from tokenferry.accounts._login import ORIGIN
from tokenferry.credentials import ApiKey
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document

KEY = "sk-ant-api03-" + "Kk1" * 30
ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
LOGIN = {"accessToken": ACCESS, "refreshToken": REFRESH, "expiresAt": 4_000_000_000_000}


@pytest.fixture
def person() -> Path:
    return Path(os.environ["HOME"])


@pytest.fixture
def around(home: Home, person: Path) -> Surroundings:
    return Surroundings(Fields(), person, home.locks)


def write(path: Path, value: Any = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(0o600)
    return path


def found(around: Surroundings) -> dict[str, Presence]:
    return {one.where: one for one in find_presences(around, (), ())}


def test_a_machine_without_anything_has_nothing(around: Surroundings) -> None:
    assert found(around) == {}


@pytest.mark.parametrize(
    ("place", "source", "action"),
    [
        (".claude/.credentials.json", "claude-code", "attach"),
        (".claude/oauth_pool.json", "pool", "take-over"),
        (".claude-code-mux/oauth_tokens.json", "ccm", "take-over"),
        (".claude-code-mux/config.toml", "ccm-config", "store"),
        (".cli-proxy-api/claude-me@mail.example.json", "cliproxyapi", "take-over"),
        (".cli-proxy-api/gemini-me.json", "cliproxyapi", "none"),
        (".codex/auth.json", "codex", "none"),
        (".gemini/oauth_creds.json", "gemini-cli", "none"),
        (".local/share/opencode/auth.json", "opencode", "none"),
        (".config/better-ccflare/better-ccflare.db", "better-ccflare", "none"),
        (".claude-code-router/config.json", "claude-code-router", "none"),
    ],
)
def test_each_place_is_known_by_its_name_alone(
    around: Surroundings, person: Path, place: str, source: str, action: str
) -> None:
    """A link that leads nowhere is there as well, and can't have been read."""
    path = person / place
    path.parent.mkdir(parents=True)
    path.symlink_to("/nowhere/at/all")
    (one,) = found(around).values()
    assert (one.source, one.where, one.action) == (source, str(path), action)
    assert (one.action == "take-over") == bool(one.stops)
    assert one.to_json()["stops"] == (one.stops or None)


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("ANTHROPIC_API_KEY", "store"),
        ("ANTHROPIC_AUTH_TOKEN", "store"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "store"),
        ("ZAI_API_KEY", "none"),
        ("OPENAI_API_KEY", "none"),
    ],
)
def test_a_variable_is_there_if_it_is_not_empty(around: Surroundings, name: str, action: str) -> None:
    assert found(replace(around, environ=Fields({name: ""}))) == {}
    one = found(replace(around, environ=Fields({name: KEY})))[name]
    assert (one.source, one.action) == ("env", action)
    assert KEY not in repr(one) + json.dumps(one.to_json())


def test_variables_move_the_places(around: Surroundings, person: Path) -> None:
    path = write(person / "elsewhere/auth.json")
    assert list(found(replace(around, environ=Fields(CODEX_HOME=str(path.parent))))) == [str(path)]
    odd = found(replace(around, environ=Fields(CLAUDE_CONFIG_DIR="relative", ANTHROPIC_CONFIG_DIR="relative")))
    assert {where: one.action for where, one in odd.items()} == {
        "CLAUDE_CONFIG_DIR": "none",
        "ANTHROPIC_CONFIG_DIR": "none",
    }


def test_what_came_from_a_place_already_is_named(around: Surroundings, person: Path) -> None:
    pool = write(person / ".claude/oauth_pool.json", {})
    write(person / ".claude/.credentials.json", {})
    write(person / ".config/anthropic/configs/work.json", {})
    stored = Document(
        Account("me", "claude-max", "oauth"), ApiKey(Secret(KEY)), unknown=Fields({ORIGIN: {"where": str(pool)}})
    )
    other = Document(Account("other", "anthropic", "api-key"), ApiKey(Secret(KEY)))
    claude = Account("cc", "claude-max", "oauth", store="claude-code", labels={"config_dir": str(person / ".claude")})
    labels = {"config_dir": str(person / ".config/anthropic"), "profile": "work"}
    profile = Account("ant", "console", "oauth", store="anthropic-profile", labels=labels)
    known = {one.title: one.accounts for one in find_presences(around, [stored, other], [claude, profile])}
    assert known == {
        "Claude Code's login": ("cc",),
        "SDK profile work": ("ant",),
        "pool file of logins": ("me",),
    }


@pytest.fixture
def full(around: Surroundings, person: Path) -> Surroundings:
    write(person / ".claude/.credentials.json", {"claudeAiOauth": LOGIN})
    for name in ("work", "spare"):
        write(
            person / f".config/anthropic/configs/{name}.json",
            {"authentication": {"type": "user_oauth", "client_id": "c"}},
        )
        credentials = {
            "version": "1.0",
            "type": "oauth_token",
            "access_token": f"of-{name}",
            "expires_at": 4_000_000_000,
        }
        write(person / f".config/anthropic/credentials/{name}.json", credentials)
    write(person / ".claude/oauth_pool.json", {"accounts": {"me@mail.example": LOGIN}})
    login = {"type": "claude", "access_token": ACCESS, "refresh_token": REFRESH, "expired": "2030-01-01T00:00:00Z"}
    write(person / ".cli-proxy-api/claude-me.json", login)
    return replace(around, environ=Fields(ANTHROPIC_API_KEY=KEY, CLAUDE_CODE_OAUTH_TOKEN=ACCESS))


def test_what_is_opened_gives_its_own_credentials_and_no_others(full: Surroundings) -> None:
    for presence in find_presences(full, (), ()):
        entries, beside = read_presence(presence, full)
        assert [one.where for one in entries] == [presence.where]
        assert entries[0].entry.credential is not None
        assert bool(beside) == (presence.action == "take-over"), "logins in place are looked at to compare with alone"
        if presence.source == "cliproxyapi":
            assert entries[0].entry.provider == "claude-max"
