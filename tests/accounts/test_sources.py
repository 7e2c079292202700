import json
import os
from pathlib import Path
from typing import Any

import pytest

from tokenferry.accounts import Found, Surroundings, attachable, look_around, look_into, look_through
from tokenferry.errors import CorruptFile, UnsafeFile, UsageError
from tokenferry.secret import Fields
from tokenferry.settings import Home
from tokenferry.stores import HiddenBytes

KEY = "sk-ant-api03-" + "Kk1" * 30
ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
LOGIN = {"accessToken": ACCESS, "refreshToken": REFRESH, "expiresAt": 4_000_000_000_000}
POOL = {"accounts": {"me@mail.example": LOGIN}}


@pytest.fixture
def person() -> Path:
    return Path(os.environ["HOME"])


@pytest.fixture
def around(home: Home, person: Path) -> Surroundings:
    return Surroundings(Fields(), person, home.locks)


def write(path: Path, value: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(mode)
    return path


def seen(found: list[Found]) -> list[tuple[str, str, str]]:
    return [(one.source, one.hint, one.entry.fault) for one in found]


def test_a_machine_without_anything_has_nothing(around: Surroundings) -> None:
    assert list(look_around(around)) == []


def test_every_place_is_looked_at_and_what_can_be_attached_comes_first(home: Home, person: Path) -> None:
    write(person / ".claude" / ".credentials.json", {"claudeAiOauth": LOGIN})
    write(person / ".config/anthropic/configs/work.json", {"authentication": {"type": "user_oauth", "client_id": "c"}})
    credentials = {"version": "1.0", "type": "oauth_token", "access_token": "of-ant", "expires_at": 4_000_000_000}
    write(person / ".config/anthropic/credentials/work.json", credentials)
    write(person / ".claude" / "oauth_pool.json", POOL)
    login = {"access_token": "a", "refresh_token": "r", "expires_at": "2027-01-15T08:00:00Z"}
    write(person / ".claude-code-mux" / "oauth_tokens.json", {"some-login": login})
    config = (
        '[[providers]]\nname = "x"\nprovider_type = "anthropic"\nauth_type = "oauth"\noauth_provider = "some-login"\n'
    )
    config += '[[providers]]\nname = "key"\nprovider_type = "anthropic"\napi_key = "$MUX"\n'
    write(person / ".claude-code-mux" / "config.toml", config, 0o644)
    around = Surroundings(Fields(ANTHROPIC_API_KEY=KEY, MUX=KEY), person, home.locks)
    found = list(look_around(around))
    assert seen(found) == [
        ("claude-code", "claude-code", ""),
        ("profile", "work", ""),
        ("env", "anthropic-key", ""),
        ("pool", "me@mail.example", ""),
        ("ccm", "some-login", ""),
        ("ccm-config", "key", ""),
    ]
    accounts = [one.account and (one.account.store, one.account.owner, one.account.provider) for one in found]
    assert accounts[:2] == [("claude-code", "claude-code", "claude-max"), ("anthropic-profile", "ant", "console")]
    assert not any(accounts[2:])
    assert found[4].entry.provider == "claude-max"
    assert found[5].entry.provider == "anthropic"


def test_claude_code_s_variable_moves_its_login_and_the_pool_file(home: Home, person: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    write(folder / ".credentials.json", {"claudeAiOauth": LOGIN})
    write(folder / "oauth_pool.json", POOL)
    around = Surroundings(Fields(CLAUDE_CONFIG_DIR=str(folder)), person, home.locks)
    assert [one.where for one in look_around(around)] == [
        str(folder / ".credentials.json"),
        str(folder / "oauth_pool.json"),
    ]
    odd = Surroundings(Fields(CLAUDE_CONFIG_DIR="relative"), person, home.locks)
    assert all("absolute path" in one.entry.fault for one in look_around(odd))


def test_what_can_t_be_read_is_reported_and_the_rest_goes_on(around: Surroundings, person: Path) -> None:
    write(person / ".claude" / ".credentials.json", {"claudeAiOauth": LOGIN}, 0o644)
    write(person / ".claude" / "oauth_pool.json", "no JSON")
    write(person / ".claude-code-mux" / "oauth_tokens.json", [5])
    write(person / ".config/anthropic/configs/work.json", "no JSON")
    write(person / ".claude-code-mux" / "config.toml", '[[providers]]\nname = "key"\napi_key = "k"\n')
    found = list(look_around(around))
    assert [one.source for one in found] == ["claude-code", "profile", "pool", "ccm", "ccm-config"]
    assert [bool(one.entry.fault) for one in found] == [True, True, True, True, False]
    assert "has mode 0644" in found[0].entry.fault
    assert found[0].is_unread


def test_a_logged_out_claude_code_is_reported_and_holds_nothing(around: Surroundings, person: Path) -> None:
    stub = {"accessToken": "", "refreshToken": "", "expiresAt": 0}
    write(person / ".claude" / ".credentials.json", {"claudeAiOauth": stub})
    (found,) = look_around(around)
    assert "logged out" in found.entry.fault
    assert not found.is_unread
    write(person / ".claude" / ".credentials.json", {"mcpOAuth": {}})
    assert list(look_around(around)) == []


def test_a_profile_for_another_host_is_of_no_provider_that_is_known(around: Surroundings, person: Path) -> None:
    config = {"authentication": {"type": "user_oauth"}, "base_url": "https://llm.example"}
    write(person / ".config/anthropic/configs/work.json", config)
    write(person / ".config/anthropic/credentials/work.json", {"type": "oauth_token", "access_token": "x"})
    (found,) = attachable(around)
    assert found.account is not None
    assert (found.account.provider, found.entry.provider) == ("", None)


def test_a_file_is_read_by_its_content(around: Surroundings, tmp_path: Path) -> None:
    path = write(tmp_path / "my.json", {"access_token": ACCESS, "account_email": "me@mail.example"})
    (found,) = look_into(path, None, around)
    assert (found.source, found.hint, found.where) == ("bundle", "me@mail.example", str(path))
    (plain,) = look_into(write(tmp_path / "key", KEY), None, around)
    assert (plain.source, plain.hint) == ("key-file", "key")
    (line,) = look_into(write(tmp_path / "my.env", f"ANTHROPIC_API_KEY={KEY}"), None, around)
    assert (line.source, line.hint) == ("env", "anthropic-key")


def test_a_program_s_own_file_is_offered_as_that_program_s(around: Surroundings, person: Path) -> None:
    path = write(person / ".claude" / ".credentials.json", {"claudeAiOauth": LOGIN})
    (found,) = look_into(path, None, around)
    assert found.account is not None
    copy = write(person / "copy.json", {"claudeAiOauth": LOGIN})
    (copied,) = look_into(copy, None, around)
    assert copied.account is None


def test_a_file_that_can_t_be_imported_is_refused_in_a_sentence(around: Surroundings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not found"):
        look_into(tmp_path / "missing", None, around)
    with pytest.raises(UnsafeFile, match="has mode 0644"):
        look_into(write(tmp_path / "open", KEY, 0o644), None, around)
    with pytest.raises(CorruptFile, match="none of the formats known here"):
        look_into(write(tmp_path / "words", "some words"), None, around)
    with pytest.raises(CorruptFile, match="isn't JSON of accounts by e-mail"):
        look_into(write(tmp_path / "words", "some words"), "pool", around)


def test_what_is_piped_in_is_read_by_its_content(around: Surroundings) -> None:
    (found,) = look_through(HiddenBytes(KEY.encode()), None, around, "stdin")
    assert (found.source, found.hint, found.where) == ("key-file", "imported", "stdin")
    with pytest.raises(UsageError, match="what came from stdin can't be imported"):
        look_through(HiddenBytes(b"some words"), None, around, "stdin")
