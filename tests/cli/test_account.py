import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.documents import document, put
from cli.harness import COMMAND, Outcome, Terminal, bundle, eventually, tokenferry
from leaks import shows
from tokenferry.sandbox import Sandbox
from tokenferry.secret import fingerprint
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State

KEY = "sk-ant-api03-" + "k" * 60
SETUP = "sk-ant-oat01-" + "s" * 90
LOGIN = {"access_token": "fake-access", "refresh_token": "fake-refresh", "expires_at": 4_000_000_000}

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


def stored(home: Home, name: str = "work") -> dict[str, Any]:
    path = home.accounts / f"{name}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def test_a_key_is_read_from_stdin_and_shown_by_its_fingerprint_alone(home: Home, inside: Inside) -> None:
    outcome = inside("account", "add", "work", stdin=f"{KEY}\n")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        f"stored account work (anthropic, api-key, fingerprint {fingerprint(KEY)})",
        "serves as 1 of 1 at anthropic",
    ]
    assert outcome.hides(KEY)
    credential = stored(home)["credential"]
    assert abs(credential.pop("obtained_at") - time.time()) < 600
    assert credential == {"key": KEY}


def test_in_a_terminal_the_secret_is_asked_for_and_not_shown(home: Home) -> None:
    terminal = Terminal("account", "add", "work")
    terminal.wait_for("(not shown)")
    terminal.type(f"{KEY}\n")
    assert terminal.end() == 0
    assert not shows(terminal.shown, KEY)
    assert stored(home)["credential"]["key"] == KEY


def test_an_oauth_login_is_ours_from_then_on_and_says_where_it_came_from(home: Home, inside: Inside) -> None:
    outcome = inside("account", "add", "work", "--provider", "sandbox", stdin=json.dumps(LOGIN))
    assert outcome.code == 0
    assert outcome.hides("fake-access", "fake-refresh")
    assert stored(home)["owner"] == "tokenferry"
    assert stored(home)["credential"]["source"] == "added"
    other = {**LOGIN, "refresh_token": "fake-other-refresh", "source": "backup"}
    inside("account", "add", "other", "--provider", "sandbox", stdin=json.dumps(other))
    assert stored(home, "other")["credential"]["source"] == "backup"


@pytest.mark.parametrize(
    ("arguments", "given", "kind"),
    [
        (["--provider", "console"], KEY, "api-key"),
        (["--provider", "claude-max"], SETUP, "setup-token"),
        (["--provider", "sandbox"], json.dumps(LOGIN), "oauth"),
        (["--provider", "sandbox", "--kind", "api-key"], "anything", "api-key"),
    ],
)
def test_the_kind_is_what_the_prefix_says_else_the_providers_else_what_is_asked_for(
    home: Home, arguments: list[str], given: str, kind: str, inside: Inside
) -> None:
    outcome = inside("account", "add", "work", *arguments, stdin=given)
    assert outcome.code == 0, outcome.err
    assert stored(home)["kind"] == kind


def test_a_subscriptions_credential_is_stored_with_word_of_who_may_have_it(home: Home, inside: Inside) -> None:
    outcome = inside("account", "add", "work", "--provider", "claude-max", stdin=SETUP)
    assert outcome.code == 0
    assert "Claude Code alone" in outcome.err
    assert "[policy]" in outcome.err
    assert tokenferry("token", "work").code == 7
    assert "for Claude Code alone" in inside("account", "list").out
    home.config.write_text('[policy]\nsubscriptions = "own-use"\n')
    home.config.chmod(0o600)
    assert tokenferry("token", "work").out == f"{SETUP}\n"


def test_replacing_keeps_the_provider_so_that_the_cure_in_every_message_works(home: Home, inside: Inside) -> None:
    inside("account", "add", "work", "--provider", "sandbox", stdin=json.dumps(LOGIN))
    again = inside("account", "add", "work", stdin=json.dumps(LOGIN))
    assert again.code == 2
    taken = inside("account", "add", "work", "--provider", "sandbox", stdin=json.dumps(LOGIN))
    assert taken.code == 2
    assert "--replace" in taken.one_line()
    done = inside("account", "add", "work", "--replace", stdin=json.dumps({**LOGIN, "access_token": "newer"}))
    assert done.code == 0
    assert done.out.startswith("replaced account work (sandbox, oauth")
    assert stored(home)["credential"]["access_token"] == "newer"


@pytest.mark.parametrize(
    ("arguments", "given", "code", "word"),
    [
        (["work", "--provider", "nobody"], KEY, 4, "anthropic, claude-max, console, sandbox"),
        (["work"], "something", 2, "--provider"),
        (["work", "--provider", "anthropic"], "", 2, "no key or token was given"),
        (["work", "--provider", "anthropic"], " \n", 2, "no key or token was given"),
        (["work", "--provider", "anthropic"], "two words", 2, "not usable"),
        (["work", "--provider", "sandbox"], "no json", 2, "JSON"),
        (["work", "--provider", "anthropic"], "x" * 2_000_000, 2, "longer"),
        (["../work", "--provider", "anthropic"], KEY, 2, "can't be an account's name"),
        (["-work", "--provider", "anthropic"], KEY, 2, "option"),
        (["work", "--kind", "password"], KEY, 2, "kind"),
        ([], KEY, 2, "name"),
    ],
)
def test_what_can_not_be_added_is_refused_in_a_sentence(
    home: Home, arguments: list[str], given: str, code: int, word: str
) -> None:
    outcome = tokenferry("account", "add", *arguments, stdin=given)
    assert outcome.code == code
    assert word.lower() in outcome.one_line().lower()
    assert not home.accounts.exists() or not list(home.accounts.iterdir())


def test_a_secret_where_a_name_belongs_is_not_repeated(home: Home, inside: Inside) -> None:
    assert inside("account", "add", "work", KEY).hides(KEY)
    assert inside("account", "add", KEY + "k" * 60, "--provider", "anthropic", stdin=KEY).hides("k" * 20)


def test_no_secret_is_in_a_command_line(home: Home, sandbox: Sandbox) -> None:
    """What can be seen in /proc while a secret is stored, used and renewed is free of it."""
    issued = sandbox.issue("alice", expires_in=-60)
    seen: list[str] = []
    terminal = Terminal.of([COMMAND, "account", "add", "work", "--provider", "sandbox"])
    terminal.wait_for("(not shown)")
    seen.append(_command_line(terminal.process.pid))
    terminal.type(f"{bundle(issued)}\n")
    assert terminal.end() == 0
    sandbox.fault("hang", path="/v1/oauth/token")
    terminal = Terminal.of([COMMAND, "token"])
    eventually(lambda: sandbox.counters()["in_flight"])
    seen.append(_command_line(terminal.process.pid))
    sandbox.clear()
    assert terminal.end() == 0
    token = terminal.shown.strip()
    assert all(seen)
    assert not shows(" ".join(seen), issued["access_token"], issued["refresh_token"], token)


def _command_line(pid: int) -> str:
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_text() + (process / "environ").read_text()


def test_a_list_says_that_an_account_is_limited_for_some_models(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "work", "claude-opus"), "window", "answer", 4_102_444_800))
    assert "limited until 2100-01-01T00:00:00Z (" in (out := inside("account", "list").out)
    assert "), models of claude-opus; fresh, expires in" in out
    assert [row["state"] for row in inside("account", "list", "--json").json] == ["fresh"]


def test_a_list_shows_every_account_a_broken_one_with_its_reason(home: Home, inside: Inside) -> None:
    data = document(time.time())
    data["credential"]["expires_at"] += 10 * 86_400
    put(home, data)
    put(home, b"{", "torn")
    outcome = inside("account", "list")
    assert outcome.code == 0
    heading, work, torn = outcome.out.splitlines()
    assert heading.split() == ["NAME", "USE", "PROVIDER", "KIND", "OWNER", "FINGERPRINT", "STATE"]
    assert work.split()[:5] == ["work", "-", "sandbox", "oauth", "tokenferry"]
    assert "fresh, expires in 10 d" in work
    assert torn.split()[0] == "torn"
    assert "broken: " in torn
    assert "isn't a JSON object" in torn
    assert [row["state"] for row in inside("account", "list", "--json").json] == ["fresh", "broken"]


def test_the_account_in_use_is_marked(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    assert inside("use", "work").out.splitlines()[0] == "account work is in use"
    assert inside("account", "list").out.splitlines()[1].split()[:2] == ["work", "*"]
    assert inside("account", "list", "--json").json[0]["active"] is True


def test_implicit_accounts_say_where_they_come_from(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert "fresh (from the environment)" in inside("account", "list").out
    monkeypatch.setenv("MY_KEY", KEY)
    configure(home, "http://127.0.0.1:1", '[[providers]]\nname = "anthropic"\napi_key = "$MY_KEY"\n')
    out = inside("account", "list").out
    assert "fresh (from config)" in out
    assert "fresh (from the environment)" not in out  # it counts only while no other is there
    refused = inside("account", "remove", "anthropic", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert "remove it there" in refused.err


def test_no_control_sequence_of_a_document_reaches_a_terminal(home: Home, inside: Inside) -> None:
    data = document(time.time(), provider="\x1b[31mred")
    data["credential"] |= {"email": "a\x1b]0;title\x07@example.com", "scopes": ["x\nforged: line"]}
    put(home, data)
    put(home, b"{}", "\x1b[2Jgone")
    for arguments in (["account", "list"], ["account", "show", "work"], ["status"], ["token", "work"], ["doctor"]):
        outcome = inside(*arguments)
        shown = outcome.out + outcome.err
        assert "\x1b" not in shown, arguments
        assert "\nforged" not in shown, arguments


def test_show_tells_all_but_the_secrets(home: Home, inside: Inside, login: Callable[..., dict[str, Any]]) -> None:
    issued = login()
    outcome = inside("account", "show", "work")
    assert outcome.code == 0
    for word in ("sandbox", "oauth", "tokenferry", "alice@example.com", fingerprint(issued["access_token"])):
        assert word in outcome.out
    assert str(home.accounts / "work.json") in outcome.out
    data = inside("account", "show", "work", "--json")
    assert data.json["expires_at"] == issued["expires_at"]
    assert data.json["refresh_fingerprint"] == fingerprint(issued["refresh_token"])
    assert outcome.hides(issued["access_token"], issued["refresh_token"])
    assert data.hides(issued["access_token"], issued["refresh_token"])


def test_show_of_what_is_not_there_or_broken_is_an_error(home: Home, inside: Inside) -> None:
    put(home, b"{", "torn")
    assert inside("account", "show", "nobody").code == 4
    assert inside("account", "show", "torn").code == 8


def test_removing_asks_in_a_terminal_and_wants_a_flag_elsewhere(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    refused = inside("account", "remove", "work")
    assert refused.code == 2
    assert "--yes" in refused.one_line()
    for answer, code, is_left in (("n", 1, True), ("", 1, True), ("y", 0, False)):
        terminal = Terminal("account", "remove", "work")
        terminal.wait_for("[y/N]")
        terminal.type(f"{answer}\n")
        assert terminal.end() == code
        assert (home.accounts / "work.json").exists() is is_left


@pytest.mark.parametrize("command", [("account", "remove", "first", "--yes"), ("logout", "first", "--keep-remote")])
def test_a_removal_says_which_provider_became_the_default_one(
    home: Home, inside: Inside, command: tuple[str, ...]
) -> None:
    put(home, document(time.time(), name="first", provider="sandbox"), "first")
    put(home, document(time.time(), name="second", provider="console"), "second")
    assert "provider console is the default provider now" in inside(*command).err
    assert home.default_provider.read_text() == "console\n"


def test_removing_works_for_broken_documents_and_clears_what_is_in_use(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    inside("use", "work")
    put(home, b"{", "torn")
    assert inside("account", "remove", "torn", "--yes").out == "removed account torn\n"
    assert inside("account", "remove", "work", "-y").code == 0
    assert not home.active.exists()
    assert inside("account", "remove", "work", "--yes").code == 4


def test_a_copied_login_is_confirmed(
    home: Home, sandbox: Sandbox, inside: Inside, login: Callable[..., dict[str, Any]]
) -> None:
    login(expires_in=-60)
    data = stored(home)
    put(home, {**data, "machine": "another"})
    assert inside("account", "list", "--json").json[0]["state"] == "copied"
    refused = inside("token")
    assert refused.code == 5
    assert "tokenferry account confirm work" in refused.err
    assert inside("account", "confirm", "work").code == 0
    assert inside("token").code == 0
    assert inside("account", "confirm", "nobody").code == 4


def test_use_names_what_goes_before_it(home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, document(time.time()))
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "other")
    assert "TOKENFERRY_ACCOUNT" in inside("use", "work").err
    assert inside("use", "nobody").code == 4


def test_logging_in_again_gets_past_a_record_that_can_not_be_read(
    home: Home, login: Login, sandbox: Sandbox, inside: Inside
) -> None:
    login("work", expires_in=-60)
    home.journal.mkdir(mode=0o700, exist_ok=True)
    record = home.journal / "work.attempt"
    record.write_bytes(b"?")
    record.chmod(0o600)
    refused = tokenferry("token", "work")
    assert refused.code == 8
    assert "tokenferry login work" in refused.one_line()
    again = inside("account", "add", "work", "--replace", stdin=bundle(sandbox.issue("alice", expires_in=-60)))
    assert again.code == 0
    assert tokenferry("token", "work").code == 0


OLD_KEY = "sk-ant-api03-" + "o" * 80


def aged(home: Home, days: float) -> None:
    """Make the account `old` so many days older."""
    path = home.accounts / "old.json"
    data = json.loads(path.read_text())
    data["credential"]["obtained_at"] -= int(days * 86_400)
    path.write_text(json.dumps(data))


@pytest.mark.usefixtures("free_port")
def test_a_key_is_warned_of_before_it_is_too_old_and_not_given_afterwards(home: Home, inside: Inside) -> None:
    assert inside("account", "add", "old", stdin=OLD_KEY).code == 0
    assert inside("account", "set", "old", "--max-age", "100d").out == (
        "account old may hold a credential of at most 100d\n"
    )
    assert "account.max-age" in home.audit.read_text()
    assert "max age      100d" in inside("account", "show", "old").out
    (row,) = inside("account", "list", "--json").json
    assert (row["max_age"], row["aging"]["cause"], row["aging"]["stage"]) == (8_640_000, "max-age", "fine")
    assert inside("doctor").code == 0

    aged(home, 95)
    (row,) = inside("status", "--json").json["accounts"]
    assert row["aging"]["stage"] == "soon"
    assert 4 * 86_400 < row["aging"]["left"] <= 5 * 86_400
    assert "the age that is allowed for its key ends 2" in inside("status").out
    assert "cure: tokenferry account add old --replace" in inside("doctor").out
    assert tokenferry("token", "old").out == f"{OLD_KEY}\n"

    aged(home, 5)
    outcome = tokenferry("token", "old")
    assert outcome.code == 5
    assert "older than the 100d" in outcome.one_line()
    (row,) = inside("account", "list", "--json").json
    assert (row["state"], row["aging"]["stage"]) == ("needs-login", "over")

    assert inside("account", "add", "old", "--replace", stdin=OLD_KEY + "n").code == 0
    assert tokenferry("token", "old").out == f"{OLD_KEY}n\n", "the limit stays, and counts from the new key on"
    assert inside("account", "list", "--json").json[0]["max_age"] == 8_640_000
    assert inside("account", "set", "old", "--max-age", "none").code == 0
    assert inside("account", "list", "--json").json[0]["aging"] is None


def test_a_login_has_no_maximum_age(home: Home, inside: Inside) -> None:
    inside("account", "add", "con", "--provider", "console", stdin='{"access_token": "a", "refresh_token": "r"}')
    assert inside("account", "set", "con", "--max-age", "9d").code == 2
    assert inside("account", "set", "nobody", "--max-age", "9d").code == 4


def test_a_login_is_checked_for_free_and_a_refused_one_is_not_stored(sandbox: Sandbox, inside: Inside) -> None:
    issued = sandbox.issue("alice", expires_in=28_800)
    added = inside("account", "add", "good", "--provider", "sandbox", "--verify", stdin=bundle(issued))
    assert (added.code, "127.0.0.1 accepts it" in added.err) == (0, True)
    checked = inside("account", "check", "good", "--json")
    assert (checked.code, checked.json["result"]) == (0, "accepted")
    refused = tokenferry(
        *("account", "add", "bad", "--provider", "sandbox", "--verify"),
        stdin=bundle({**issued, "access_token": "of-somebody-else"}),
    )
    assert refused.code == 5
    assert "so nothing was stored" in refused.one_line()
    assert [one["name"] for one in inside("account", "list", "--json").json] == ["good"]


def test_offline_it_is_stored_and_said_to_be_unchecked(home: Home, inside: Inside) -> None:
    configure(home, "http://127.0.0.1:1")
    kind = ("--provider", "sandbox", "--kind", "api-key")
    added = inside("account", "add", "k", *kind, "--verify", stdin="some-key-of-the-sandbox")
    assert (added.code, "it was not checked" in added.err) == (0, True)
    assert inside("account", "check", "k").code == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("account", "set", "work", "--priority", "7"), "priority 7"),
        (("account", "pause", "work"), "is paused"),
        (("account", "resume", "work"), "is resumed"),
        (("use", "work"), "in use"),
    ],
)
def test_with_json_a_change_ends_with_the_account_and_sentences_are_on_stderr(
    home: Home, inside: Inside, arguments: tuple[str, ...], says: str
) -> None:
    added = inside("account", "add", "work", "--json", stdin=KEY)
    assert (added.json["name"], added.json["kind"]) == ("work", "api-key")
    assert "stored account work" in added.err
    assert added.hides(KEY)
    outcome = inside(*arguments, "--json")
    assert outcome.json == inside("account", "show", "work", "--json").json
    assert says in outcome.err
    assert says not in outcome.out


def test_with_json_an_error_says_nothing_on_stdout(home: Home, inside: Inside) -> None:
    assert inside("account", "pause", "nobody", "--json").one_line().startswith("there is no account 'nobody'")
    assert inside("account", "list").out == "", "later commands of this process say where they always do"


def test_the_limits_of_an_account_are_shown_with_their_place(home: Home, inside: Inside) -> None:
    inside("account", "add", "work", stdin=KEY)
    assert "limits       none" in inside("account", "show", "work").out
    home.config.write_text(
        "[accounts.work]\nrequests_per_minute = 60\nmax_concurrency = 4\n"
        '[[providers]]\nname = "anthropic"\ntokens_per_minute = 400_000\n'
    )
    home.config.chmod(0o600)
    limits = ["60 requests a minute, 4 at a time, by [accounts.work]"]
    limits.append("400,000 tokens a minute, by [[providers]] anthropic")
    assert f"limits       {'; '.join(limits)}" in inside("account", "show", "work").out
    assert inside("account", "show", "work", "--json").json["limits"] == limits
