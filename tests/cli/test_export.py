import json
import os
import stat
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli.documents import document, put
from cli.harness import Outcome, Terminal, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.secret import fingerprint
from tokenferry.settings import Home
from tokenferry.state import Scope, State

KEY = "sk-ant-api03-" + "Kk1" * 30

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return Path(os.environ["HOME"])


def test_the_access_token_alone_is_written_with_its_expiry(person: Path, login: Login) -> None:
    issued = login()
    path = person / "login.json"
    outcome = tokenferry("export", "work", "--to", "bundle", str(path))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"exported account work to {path} (bundle, fingerprint")
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    written = json.loads(path.read_text())
    assert (written["access_token"], written["expires_at"]) == (issued["access_token"], issued["expires_at"])
    assert issued["refresh_token"] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = tokenferry("export", "work", "--to", "bundle", str(path))
    assert (again.code, "is not written over" in again.one_line()) == (2, True)


def test_a_key_of_another_vendor_goes_into_that_vendors_variable(home: Home, inside: Inside) -> None:
    """In Anthropic's variable a program would send it to Anthropic."""
    home.config.write_text(
        '[[providers]]\nname = "gemini"\n[[providers]]\nname = "my-llm"\nbase_url = "https://x.example"\n'
    )
    home.config.chmod(0o600)
    for provider, variable in (("gemini", "GEMINI_API_KEY"), ("my-llm", "MY_LLM_API_KEY")):
        held = document(
            time.time(), name=provider, provider=provider, kind="api-key", credential={"key": "AIza-0123456789"}
        )
        put(home, held, provider)
        outcome = inside("export", provider, "--to", "env", "-")
        assert (outcome.code, outcome.out) == (0, f"{variable}=AIza-0123456789\n"), outcome.err


def test_a_key_goes_to_stdout_when_that_is_no_terminal(person: Path, home: Home) -> None:
    tokenferry("account", "add", "work", stdin=KEY)
    assert tokenferry("export", "work", "--to", "key-file", "-").out == f"{KEY}\n"
    assert tokenferry("export", "work", "--to", "env", "-").out == f"ANTHROPIC_API_KEY={KEY}\n"
    terminal = Terminal("export", "work", "--to", "env", "-")
    assert terminal.end() == 2
    assert "stdout is a terminal" in terminal.shown
    assert KEY not in terminal.shown
    forced = Terminal("export", "work", "--to", "env", "-", "--force")
    assert forced.end() == 0
    assert KEY in forced.shown


def test_the_shared_files_have_places_of_their_own(person: Path, login: Login) -> None:
    issued = login()
    outcome = tokenferry("export", "work", "--to", "pool", "--key", "me@mail.example")
    assert outcome.code == 0, outcome.err
    pool = json.loads((person / ".claude" / "oauth_pool.json").read_text())
    assert pool["accounts"]["me@mail.example"]["accessToken"] == issued["access_token"]
    assert pool["accounts"]["me@mail.example"]["refreshToken"] == ""
    assert tokenferry("export", "work", "--to", "ccm").code == 0
    tokens = json.loads((person / ".claude-code-mux" / "oauth_tokens.json").read_text())
    assert tokens["claude-max"]["access_token"] == issued["access_token"]


def test_a_login_is_handed_over_once_and_can_be_taken_in_again(
    person: Path, login: Login, sandbox: Sandbox, home: Home
) -> None:
    issued = login()
    path = person / "login.json"
    arguments = ("export", "work", "--to", "bundle", "--with-refresh-token", str(path))
    asked = tokenferry(*arguments)
    assert asked.code == 2
    assert "confirm with --yes" in asked.one_line()
    assert not path.exists()
    outcome = tokenferry(*arguments, "--yes")
    assert outcome.code == 0, outcome.err
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    assert json.loads(path.read_text())["refresh_token"] == issued["refresh_token"]
    assert tokenferry("token", "work").code == 4
    assert [json.loads(line)["action"] for line in home.audit.read_text().splitlines()][-1] == "account.hand-over"
    back = tokenferry("import", str(path), "--provider", "sandbox", "--take-over", "--name", "work")
    assert back.code == 0, back.err
    assert tokenferry("refresh", "work").code == 0
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1


def test_in_a_terminal_a_no_hands_nothing_over(person: Path, login: Login) -> None:
    login()
    terminal = Terminal("export", "work", "--to", "bundle", "--with-refresh-token", str(person / "login.json"))
    terminal.wait_for("refreshes it from then on")
    terminal.type("n\n")
    assert terminal.end() == 1
    assert "nothing was handed over" in terminal.shown
    assert not (person / "login.json").exists()
    assert tokenferry("token", "work").code == 0


def begin_hand_over(issued: dict[str, Any], person: Path, home: Home) -> Path:
    """What is on disk of a hand-over that was killed before its file was written. Gives the account's document."""
    path = home.accounts / "work.json"
    document = json.loads(path.read_text())
    refresh = sha256(issued["refresh_token"].encode()).hexdigest()
    begun = {"target": "bundle", "path": str(person / "b.json"), "key": None, "refresh": refresh, "at": 1}
    path.write_text(json.dumps(document | {"owner": "external", "handed_over": begun}))
    return path


def test_a_hand_over_of_a_subscription_is_not_completed_without_the_policy(
    person: Path, login: Login, home: Home, sandbox: Sandbox
) -> None:
    begin_hand_over(login(), person, home)
    home.config.write_text(home.config.read_text() + "subscription = true\n")
    complete = ("export", "work", "--to", "bundle", "--with-refresh-token", "--yes", str(person / "b.json"))
    assert tokenferry(*complete).code == 7
    assert not (person / "b.json").exists()
    home.config.write_text(f'{home.config.read_text()}[policy]\nsubscriptions = "own-use"\n')
    assert tokenferry(*complete).code == 0


def test_a_hand_over_that_was_cut_short_is_found_and_taken_back(person: Path, login: Login, home: Home) -> None:
    path = begin_hand_over(login(), person, home)
    found = tokenferry("doctor", "--json")
    cures = [one["cure"] for one in found.json if "was cut short" in one["what"]]
    assert cures == [
        f"tokenferry export work --to bundle --with-refresh-token {person}/b.json; or: tokenferry export work "
        "--take-back"
    ]
    assert "confirm with --yes" in tokenferry("export", "work", "--take-back").one_line()
    taken = tokenferry("export", "work", "--take-back", "--yes")
    assert taken.out == "the login of account work is tokenferry's again\n"
    assert json.loads(path.read_text())["owner"] == "tokenferry"
    assert tokenferry("refresh", "work").code == 0
    assert "nothing to take back" in tokenferry("export", "work", "--take-back", "--yes").one_line()


def test_a_subscription_is_handed_to_no_program_without_the_policy(person: Path, home: Home) -> None:
    setup = "sk-ant-oat01-" + "Ss1" * 30
    tokenferry("account", "add", "mine", "--provider", "claude-max", stdin=setup)
    for more in ((), ("--with-refresh-token", "--yes")):
        outcome = tokenferry("export", "mine", "--to", "key-file", str(person / "key"), *more)
        assert outcome.code == 7
        assert "[policy]" in outcome.one_line()
    assert not (person / "key").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "name a format"),
        (("--to", "bundle"), 2, "name the file to write"),
        (("--to", "claude-code"), 2, "tokenferry claude-code switch NAME"),
        (("--to", "bundle", "-", "--with-refresh-token"), 2, "the login must be on disk"),
        (("--to", "env", "x.env", "--with-refresh-token", "--yes"), 2, "holds one token and no refresh token"),
        (("--to", "bundle", "temporary/x.json"), 8, "under the temporary folder"),
    ],
)
def test_what_can_t_be_done_is_reported_in_one_sentence(
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
    *,
    person: Path,
    login: Login,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issued = login()
    monkeypatch.chdir(person.parent)
    outcome = tokenferry("export", "work", *arguments)
    assert sentence in outcome.one_line()
    assert outcome.code == code
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    assert fingerprint(issued["access_token"]) in tokenferry("account", "list").out


def test_a_limit_moves_in_and_out_with_the_account(person: Path, home: Home) -> None:
    home.config.write_text('[policy]\nsubscriptions = "own-use"\n')
    home.config.chmod(0o600)
    limited = {"rateLimited": True, "rateLimitResetAt": 1_900_000_000_000}
    login = {"accessToken": KEY, "refreshToken": "r", "expiresAt": 1_900_000_000_000, "email": "me@mail.example"}
    path = person / "pool.json"
    path.write_text(json.dumps({"accounts": {"me@mail.example": login | limited}}))
    path.chmod(0o600)
    assert tokenferry("import", str(path), "--take-over").code == 0
    with State(home.state) as state:
        (mark,) = state.cooldowns.list()
    assert (mark.scope, mark.until) == (Scope("account", "me@mail.example"), 1_900_000_000)
    outcome = tokenferry("export", "me@mail.example", "--to", "pool")
    assert outcome.code == 0, outcome.err
    written = json.loads((person / ".claude" / "oauth_pool.json").read_text())["accounts"]["me@mail.example"]
    assert written == login | limited | {"refreshToken": ""}
