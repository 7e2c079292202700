import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.harness import Outcome, Terminal, begin, end, tokenferry
from leaks import shows
from tokenferry.sandbox import Sandbox
from tokenferry.secret import fingerprint
from tokenferry.settings import Home

KEY = "sk-ant-api03-" + "Kk1" * 30
SETUP = "sk-ant-oat01-" + "Ss1" * 30
ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
POOL_ACCESS = "sk-ant-oat01-" + "Pp1" * 30
POOL_REFRESH = "sk-ant-ort01-" + "Qq1" * 30
MUX_ACCESS = "sk-ant-oat01-" + "Mm1" * 30
MUX_REFRESH = "sk-ant-ort01-" + "Nn1" * 30
SECRETS = (KEY, ACCESS, REFRESH, POOL_ACCESS, POOL_REFRESH, MUX_ACCESS, MUX_REFRESH)

Inside = Callable[..., Outcome]


def write(path: Path, value: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(mode)
    return path


@pytest.fixture
def person() -> Path:
    return Path(os.environ["HOME"])


@pytest.fixture
def neighbours(person: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who used Claude Code, a pool file, claude-code-mux and a variable before."""
    login = {"accessToken": ACCESS, "refreshToken": REFRESH, "expiresAt": 1_900_000_000_000, "subscriptionType": "max"}
    write(person / ".claude" / ".credentials.json", {"claudeAiOauth": login})
    pooled = {"accessToken": POOL_ACCESS, "refreshToken": POOL_REFRESH, "expiresAt": 1_900_000_000_000}
    accounts = {
        "you@mail.example": pooled
        | {"subscriptionType": "pro", "rateLimited": True, "rateLimitResetAt": 1_900_000_000_000},
        "copy@mail.example": login,
        "out@mail.example": {"accessToken": "", "refreshToken": "", "expiresAt": 0},
    }
    write(person / ".claude" / "oauth_pool.json", {"accounts": accounts})
    mux = {"provider_id": "claude-max", "access_token": MUX_ACCESS, "refresh_token": MUX_REFRESH}
    write(person / ".claude-code-mux/oauth_tokens.json", {"claude-max": mux | {"expires_at": "2030-03-17T17:46:40Z"}})
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return person


def names(inside: Inside) -> dict[str, str]:
    return {one["name"]: one["owner"] for one in inside("account", "list", "--json").json if one["owner"] != "external"}


def test_what_a_new_user_sees(neighbours: Path, home: Home, inside: Inside) -> None:
    outcome = inside("import")
    assert outcome.code == 0
    other = "must stop using this login"
    assert [line.split(maxsplit=9) for line in outcome.out.splitlines()] == [
        ["ACCOUNT", "PROVIDER", "KIND", "FINGERPRINT", "EMAIL", "PLAN", "EXPIRES", "SOURCE", "WHERE", "MEANS"],
        [
            *("claude-code", "claude-max", "oauth", fingerprint(ACCESS), "-", "max", "2030-03-17T17:46:40Z"),
            *("claude-code", "~/.claude/.credentials.json"),
            "attached: the login stays Claude Code's, and is not copied",
        ],
        [
            *("anthropic-key", "anthropic", "api-key", fingerprint(KEY), "-", "-", "-", "env", "ANTHROPIC_API_KEY"),
            "stored: a copy, and both stay valid",
        ],
        [
            *("you@mail.example", "claude-max", "oauth", fingerprint(POOL_ACCESS), "you@mail.example", "pro"),
            *("2030-03-17T17:46:40Z", "pool", "~/.claude/oauth_pool.json"),
            f"taken over: whatever else uses that pool file {other}; limited until 2030-03-17T17:46:40Z",
        ],
        [
            *("-", "-", "oauth", fingerprint(ACCESS), "copy@mail.example", "max", "2030-03-17T17:46:40Z"),
            *("pool", "~/.claude/oauth_pool.json"),
            "copy@mail.example: the same login as in ~/.claude/.credentials.json",
        ],
        [
            *("-", "-", "-", "-", "-", "-", "-", "pool", "~/.claude/oauth_pool.json"),
            "out@mail.example: logged out: both tokens are blank",
        ],
        [
            *("claude-max", "claude-max", "oauth", fingerprint(MUX_ACCESS), "-", "-", "2030-03-17T17:46:40Z"),
            *("ccm", "~/.claude-code-mux/oauth_tokens.json"),
            f"taken over: claude-code-mux {other}",
        ],
    ]
    assert outcome.err == (
        "tokenferry: not imported: 4; run this in a terminal to decide on each, or give --yes and --take-over\n"
    )
    assert outcome.hides(*SECRETS)
    assert not home.accounts.exists()


def test_yes_takes_what_changes_no_owner_and_take_over_the_rest(neighbours: Path, inside: Inside) -> None:
    first = inside("import", "--yes")
    assert first.code == 0
    assert names(inside) == {"claude-code": "claude-code", "anthropic-key": "tokenferry"}
    assert f"attached account claude-code (fingerprint {fingerprint(ACCESS)})" in first.out
    assert "not imported: 2" in first.err
    assert 'says subscriptions = "own-use" under [policy]' in first.err
    assert inside("import", "--take-over").code == 0
    assert set(names(inside)) == {"claude-code", "anthropic-key", "you@mail.example", "claude-max"}
    again = inside("import", "--yes", "--take-over")
    assert again.code == 0
    assert again.err == "tokenferry: there is nothing to import\n"
    assert again.out.count("already here as") == 5
    assert again.hides(*SECRETS)


def test_in_a_terminal_each_is_asked_for(neighbours: Path, inside: Inside) -> None:
    terminal = Terminal("import", COLUMNS="300")
    for answer in ("n", "y", ""):
        terminal.wait_for("[y/N/all] ")
        terminal.shown = ""
        terminal.type(f"{answer}\n")
    terminal.wait_for("import claude-max from ~/.claude-code-mux/oauth_tokens.json? It is taken over: ")
    terminal.type("all\n")
    assert terminal.end() == 0
    assert not shows(terminal.shown, *SECRETS)
    assert set(names(inside)) == {"anthropic-key", "claude-max"}


@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_that_nothing_was_found_is_said(home: Home, inside: Inside, option: tuple[str, ...]) -> None:
    outcome = inside("import", *option)
    assert (outcome.code, outcome.out) == (0, "")
    assert "no credential of another program was found" in outcome.err


def test_a_dry_run_changes_nothing_and_json_tells_all(neighbours: Path, inside: Inside, home: Home) -> None:
    outcome = inside("import", "--dry-run", "--yes", "--take-over", "--json")
    assert outcome.code == 0
    assert outcome.err == ""
    assert not home.accounts.exists()
    first = outcome.json[0]
    assert {key: first[key] for key in ("source", "action", "name", "provider", "owner", "kind", "result")} == {
        "source": "claude-code",
        "action": "attach",
        "name": "claude-code",
        "provider": "claude-max",
        "owner": "claude-code",
        "kind": "oauth",
        "result": None,
    }
    assert first["refresh_fingerprint"] == fingerprint(REFRESH)
    assert outcome.hides(*SECRETS)
    done = inside("import", "--yes", "--json")
    assert [one["result"] for one in done.json] == ["imported", "imported", "skipped", None, None, "skipped"]
    assert json.loads((home.accounts / "anthropic-key.json").read_text())["origin"]["source"] == "env"


def test_a_machine_without_anything_says_so(inside: Inside) -> None:
    outcome = inside("import")
    assert outcome.code == 0
    assert "no credential of another program was found" in outcome.one_line()


def test_a_broken_source_is_a_sentence_and_the_rest_goes_on(neighbours: Path, inside: Inside) -> None:
    write(neighbours / ".claude" / "oauth_pool.json", "not JSON")
    outcome = inside("import", "--yes", "--take-over")
    assert outcome.code == 0
    assert "it isn't JSON of accounts by e-mail" in outcome.out
    assert set(names(inside)) == {"claude-code", "anthropic-key", "claude-max"}


def test_one_file_is_imported_under_a_name(person: Path, inside: Inside, home: Home) -> None:
    outcome = inside("import", str(write(person / "key", KEY)), "--name", "work")
    assert outcome.code == 0
    assert f"imported account work (fingerprint {fingerprint(KEY)})" in outcome.out
    again = inside("import", str(person / "key"))
    assert again.code == 1
    assert "already here as work" in again.out


def test_a_chain_in_a_file_needs_a_yes_and_is_ours_from_then_on(
    person: Path, sandbox: Sandbox, home: Home, inside: Inside
) -> None:
    issued = sandbox.issue("alice", expires_in=-60)
    path = write(person / "login.json", issued)
    refused = inside("import", str(path), "--provider", "sandbox")
    assert refused.code == 1
    assert "give --take-over" in refused.err
    outcome = inside("import", str(path), "--provider", "sandbox", "--take-over", "--name", "alice")
    assert outcome.code == 0, outcome.err
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    assert tokenferry("token", "alice").code == 0
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    used_up = inside("import", str(path), "--provider", "sandbox", "--take-over", "--name", "twin")
    assert used_up.code == 1
    assert "used up: taken over before, as alice" in used_up.out


def test_two_imports_at_once_make_one_account_of_a_chain(person: Path, sandbox: Sandbox, inside: Inside) -> None:
    path = write(person / "login.json", sandbox.issue("alice"))
    both = [begin("import", str(path), "--provider", "sandbox", "--take-over", "--name", name) for name in ("a", "b")]
    assert sorted(end(one).code for one in both) == [0, 1]
    assert len(names(inside)) == 1


def test_a_credential_can_be_piped_in(home: Home, inside: Inside) -> None:
    outcome = inside("import", "-", "--name", "mine", stdin=f"{SETUP}\n")
    assert outcome.code == 0
    assert f"imported account mine (fingerprint {fingerprint(SETUP)})" in outcome.out
    assert outcome.hides(SETUP)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--name", "x"), 2, "need a PATH"),
        (("missing.json",), 2, "missing.json not found"),
        (("words",), 8, "none of the formats known here"),
        (("words", "--format", "pool"), 8, "isn't JSON of accounts by e-mail"),
        (("open",), 8, "chmod 0600"),
        (("key", "--name", "a/b"), 2, "can't be an account's name"),
    ],
)
def test_what_can_t_be_done_is_reported_in_one_sentence(
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
    *,
    person: Path,
    inside: Inside,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(person / "words", f"some words and {KEY}")
    write(person / "open", KEY, 0o644)
    write(person / "key", KEY)
    monkeypatch.chdir(person)
    outcome = inside("import", *arguments)
    assert outcome.code == code
    assert sentence in outcome.one_line()
    assert outcome.hides(KEY)


def test_an_sdk_profile_is_attached_and_read_where_it_is(person: Path, inside: Inside) -> None:
    config = {"authentication": {"type": "user_oauth", "client_id": "c"}}
    write(person / ".config/anthropic/configs/work.json", config, 0o644)
    credentials = {"version": "1.0", "type": "oauth_token", "access_token": ACCESS, "refresh_token": REFRESH}
    write(person / ".config/anthropic/credentials/work.json", credentials | {"expires_at": 1_900_000_000})
    outcome = inside("import", "--yes")
    assert outcome.code == 0, outcome.err
    (account,) = inside("account", "list", "--json").json
    assert (account["name"], account["owner"], account["store"]) == ("work", "ant", "anthropic-profile")


def test_a_login_that_was_moved_on_to_claude_code_is_not_taken_from_its_pool_again(
    person: Path, inside: Inside, home: Home
) -> None:
    """Claude Code renews it there, and the pool's copy, used up, would log it out."""
    pooled = {"accessToken": POOL_ACCESS, "refreshToken": POOL_REFRESH, "expiresAt": 1_900_000_000_000}
    pool = write(person / "pool.json", {"accounts": {"you@mail.example": pooled}})
    assert inside("import", str(pool), "--take-over").code == 0
    assert inside("claude-code", "switch", "you@mail.example").code == 0
    path = person / ".claude" / ".credentials.json"
    document = json.loads(path.read_text())
    document["claudeAiOauth"] |= {"accessToken": ACCESS, "refreshToken": REFRESH}
    path.write_text(json.dumps(document))
    again = inside("import", str(pool), "--take-over")
    assert "used up: taken over before, as you@mail.example" in again.out
    assert len(inside("account", "list", "--json").json) == 1
