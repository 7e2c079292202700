import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from cli.conftest import configure
from cli.harness import COMMAND, PATIENCE, Outcome, Running, Terminal, end, eventually, tokenferry
from deadline import deadline
from leaks import shows
from preforked import Preforked
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

AS_ALICE = '\n[providers.oauth]\nauthorize_parameters = { login_hint = "alice" }\n'
ADDRESS = re.compile(r"http://\S+")


@pytest.fixture(autouse=True)
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the browser, which does nothing else, writes its command line."""
    script, file = tmp_path / "browser", tmp_path / "opened"
    script.write_text(f'#!/bin/sh\necho "$@" > "{file}.new" && mv "{file}.new" "{file}"\n')
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(script))
    return file


@pytest.fixture
def alice(home: Home, sandbox: Sandbox) -> Sandbox:
    """A sandbox where everybody who comes to log in is Alice."""
    home.config.write_text(home.config.read_text() + AS_ALICE)
    return sandbox


class Command:
    """`tokenferry login` with stdin as a pipe; what it says on stderr is read as it comes."""

    def __init__(self, *arguments: str) -> None:
        self.process: Running = Preforked[str](
            [COMMAND, "login", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        self.said = ""

    def addresses(self) -> list[str]:
        """Where one can log in, once all is said."""
        assert self.process.stderr is not None
        with deadline(PATIENCE, lambda: self.said):
            while "It waits for" not in self.said:
                line = self.process.stderr.readline()
                assert line, self.said
                self.said += line
        return ADDRESS.findall(self.said)

    def paste(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self) -> Outcome:
        outcome = end(self.process)
        return Outcome(outcome.code, outcome.out, self.said + outcome.err)


@pytest.fixture
def log_in() -> Iterator[Callable[..., Command]]:
    begun: list[Command] = []

    def begin(*arguments: str) -> Command:
        begun.append(Command(*arguments))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate(timeout=PATIENCE)


def browse(url: str) -> httpx2.Response:
    """What a browser of an obliging person ends up with."""
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        return browser.get(url)


def code_of(url: str) -> str:
    """What the hosted page shows."""
    found = re.search(r"[\w.-]+#[0-9a-f]{64}", browse(url).text)
    assert found is not None
    return found[0]


def stored(home: Home, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((home.accounts / f"{name}.json").read_text())
    return data


def names(home: Home) -> list[str]:
    return sorted(path.stem for path in home.accounts.glob("*.json"))


def test_a_login_in_the_browser_becomes_an_account_called_by_its_address(
    home: Home, alice: Sandbox, log_in: Callable[..., Command]
) -> None:
    command = log_in("--provider", "sandbox")
    local = command.addresses()[0]
    page = browse(local)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("logged in as alice@example.com: stored account alice@example.com (sandbox, oauth")
    assert ", expires 20" in outcome.out
    kept = stored(home, "alice@example.com")
    assert kept["credential"]["source"] == "login"
    assert kept["credential"]["scopes"] == ["org:create_api_key", "user:profile", "user:inference"]
    assert kept["owner"] == "tokenferry"
    assert outcome.hides(kept["credential"]["access_token"], kept["credential"]["refresh_token"])
    port = urlsplit(local).port
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert tokenferry("refresh", "alice@example.com").code == 0


@pytest.mark.parametrize("form", ["code", "address"])
def test_what_the_hosted_page_ends_with_can_be_pasted(
    home: Home, alice: Sandbox, log_in: Callable[..., Command], form: str
) -> None:
    command = log_in("work", "--provider", "sandbox", "--no-browser")
    (hosted,) = command.addresses()
    assert parse_qs(urlsplit(hosted).query)["redirect_uri"] == [f"{alice.url}/oauth/code/callback"]
    if form == "code":
        command.paste("nonsense")
        command.paste("nonsense#" + "0" * 64)
        command.paste(f"  {code_of(hosted)} ")
    else:
        command.paste(str(browse(hosted).url))
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("doesn't answer this login") == (2 if form == "code" else 0)
    assert names(home) == ["work"]


def test_in_a_terminal_a_paste_counts_while_the_browser_is_waited_for(home: Home, alice: Sandbox) -> None:
    terminal = Terminal("login", "work", "--provider", "sandbox")
    terminal.wait_for("It waits for")
    _, hosted = ADDRESS.findall(terminal.shown)
    terminal.type(f"{code_of(hosted)}\n")
    assert terminal.end() == 0
    assert names(home) == ["work"]


def test_no_state_code_or_challenge_is_in_a_command_line_or_a_log(
    home: Home, alice: Sandbox, log_in: Callable[..., Command], opened: Path
) -> None:
    """The browser is given an address on this machine, which leads on."""
    terminal = Terminal("-v", "login", "work", "--provider", "sandbox")
    terminal.wait_for("It waits for")
    local, hosted = ADDRESS.findall(terminal.shown)
    given = {name: values[0] for name, values in parse_qs(urlsplit(hosted).query).items()}
    eventually(opened.exists)
    assert opened.read_text().strip() == local
    code = code_of(hosted)
    terminal.shown = ""
    terminal.type(f"{code}\n")
    assert terminal.end() == 0
    shown = terminal.shown.replace(code, "", 1)  # which the terminal itself echoes
    assert not shows(shown, given["state"], code.partition("#")[0])
    audit = home.audit.read_text()
    assert not shows(audit, given["state"], code.partition("#")[0])
    assert '"action": "account.login"' in audit


def test_logging_in_again_updates_the_account_and_says_so(
    home: Home, alice: Sandbox, log_in: Callable[..., Command]
) -> None:
    first = log_in("work", "--provider", "sandbox")
    browse(first.addresses()[0])
    assert first.end().code == 0
    before = stored(home, "work")
    for arguments in (["--provider", "sandbox"], ["work"], ["other", "--provider", "sandbox"]):
        again = log_in(*arguments)
        browse(again.addresses()[0])
        outcome = again.end()
        assert outcome.code == 0, outcome.err
        assert "updated account work" in outcome.out
        assert ("is already account work" in outcome.err) == (arguments != ["work"])
    assert names(home) == ["work"]
    after = stored(home, "work")
    assert after["created_at"] == before["created_at"]
    assert after["credential"]["access_token"] != before["credential"]["access_token"]


def test_another_persons_login_does_not_take_an_accounts_place_and_is_ended(
    home: Home, alice: Sandbox, log_in: Callable[..., Command]
) -> None:
    bob = alice.issue("bob") | {"email": "bob@example.com"}
    assert tokenferry("account", "add", "work", "--provider", "sandbox", stdin=json.dumps(bob)).code == 0
    command = log_in("work")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == 2
    assert "account 'work' is bob@example.com, and this login is alice@example.com" in outcome.err
    assert stored(home, "work")["credential"]["access_token"] == bob["access_token"]
    assert alice.counters()["accounts"]["alice"]["revocations"] == 1


def test_a_setup_token_is_for_inference_alone_and_lives_a_year(
    home: Home, alice: Sandbox, log_in: Callable[..., Command]
) -> None:
    command = log_in("--provider", "sandbox", "--setup-token")
    local, hosted = command.addresses()
    assert parse_qs(urlsplit(hosted).query)["scope"] == ["user:inference"]
    browse(local)
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    kept = stored(home, "alice@example.com")
    assert kept["kind"] == "setup-token"
    assert kept["credential"]["expires_at"] - kept["credential"]["obtained_at"] == 31_536_000


def test_a_refusal_is_reported_in_one_sentence(home: Home, sandbox: Sandbox, log_in: Callable[..., Command]) -> None:
    command = log_in("--provider", "sandbox")
    local = command.addresses()[0]
    with httpx2.Client(timeout=PATIENCE) as browser:
        there = browser.get(local).headers["location"]
        back = browser.get(f"{there}&account=dave&approve=1").headers["location"]
        assert browser.get(back).status_code == 400
    outcome = command.end()
    assert outcome.code == 1
    assert "the login was refused (access_denied: The user said no.)" in outcome.err
    assert not names(home)


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        ({"kind": "status", "status": 503, "type": "overloaded_error"}, 6, "log in again later"),
        ({"kind": "lose_answer"}, 1, "its tokens were lost"),
        ({"kind": "redirect", "location": "http://127.0.0.1:1/steal"}, 1, "refused to complete the login: HTTP 307"),
        ({"kind": "unreadable"}, 1, "no token that can be read"),
        ({"kind": "huge"}, 1, "its tokens were lost"),
    ],
)
def test_an_exchange_that_fails_says_why_and_stores_nothing(
    alice: Sandbox, log_in: Callable[..., Command], fault: dict[str, Any], code: int, word: str
) -> None:
    alice.fault(path="/v1/oauth/token", **fault)
    command = log_in("--provider", "sandbox")
    browse(command.addresses()[0])
    outcome = command.end()
    assert outcome.code == code
    assert word in outcome.err
    assert tokenferry("account", "list", "--json").json == []


def test_ctrl_c_leaves_nothing_behind(home: Home, alice: Sandbox, log_in: Callable[..., Command]) -> None:
    command = log_in("--provider", "sandbox")
    port = urlsplit(command.addresses()[0]).port
    assert port is not None
    command.process.send_signal(signal.SIGINT)
    assert command.end().code == 130
    assert not names(home)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_port_can_be_named_and_one_that_is_taken_is_reported(
    home: Home, alice: Sandbox, log_in: Callable[..., Command]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = log_in("--provider", "sandbox", "--callback-port", str(port)).end()
        assert refused.code == 1
        assert f"port {port}" in refused.err
        assert "--callback-port" in refused.err
    command = log_in("--provider", "sandbox", "--callback-port", str(port))
    assert command.addresses()[0] == f"http://localhost:{port}/callback"
    browse(command.addresses()[0])
    assert command.end().code == 0


def test_without_a_browser_and_with_nothing_pasted_it_ends_at_once(home: Home, alice: Sandbox) -> None:
    outcome = tokenferry("login", "--provider", "sandbox", "--no-browser")
    assert outcome.code == 1
    assert "without a pasted code" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ([], 2, "--provider, one of: claude-max, console, sandbox"),
        (["--provider", "nobody"], 4, "there is no provider 'nobody'"),
        (["--provider", "anthropic"], 2, "declares no authorization_endpoint"),
        (["../work", "--provider", "sandbox"], 2, "can't be an account's name"),
        (["key", "--provider", "sandbox"], 2, "holds an api-key"),
        (["KEY", "--provider", "sandbox"], 2, "differs in case alone"),
        (["--provider", "claude-max"], 7, "tokenferry policy set own-use"),
    ],
)
def test_a_login_that_can_not_work_is_refused_before_any_request(
    home: Home, inside: Inside, arguments: list[str], code: int, word: str
) -> None:
    tokenferry("account", "add", "key", "--provider", "anthropic", stdin="sk-ant-api03-" + "k" * 60)
    outcome = inside("login", *arguments)
    assert outcome.code == code
    assert word in outcome.err
    assert "It waits for" not in outcome.err


def test_a_subscriptions_login_asks_for_the_statement_once_and_offers_the_vendors_way_first(home: Home) -> None:
    terminal = Terminal("login", "--provider", "claude-max")
    terminal.wait_for("[y/N]")
    assert terminal.shown.index("claude /login") < terminal.shown.index("public client id")
    assert "https://code.claude.com/docs/en/legal-and-compliance" in terminal.shown
    terminal.type("n\n")
    assert terminal.end() == 7
    assert not home.statement.exists()
    terminal = Terminal("login", "--provider", "claude-max")
    terminal.wait_for("[y/N]")
    terminal.type("y\n")
    terminal.wait_for("It waits for")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert home.statement.exists()
    terminal = Terminal("login", "--provider", "claude-max")
    terminal.wait_for("It waits for")
    assert "[y/N]" not in terminal.shown
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130


def test_a_provider_is_known_by_its_issuer_alone(home: Home, sandbox: Sandbox, log_in: Callable[..., Command]) -> None:
    """Logging in, renewing and logging out, with nothing declared but the issuer."""
    declaration = f"""
[[providers]]
name = "idp"
base_url = "https://llm.example"
auth_type = "oauth"

[providers.oauth]
issuer = "{sandbox.url}"
client_id = "some-client"
authorize_parameters = {{ login_hint = "alice" }}
"""
    configure(home, sandbox.url, declaration)
    command = log_in("work", "--provider", "idp")
    (local,) = command.addresses()
    assert local.startswith("http://127.0.0.1:")
    browse(local)
    outcome = command.end()
    assert outcome.code == 0, outcome.err
    assert tokenferry("refresh", "work").code == 0
    assert tokenferry("logout", "work").out == "logged out of account work\n"
    assert sandbox.counters()["accounts"]["alice"]["revocations"] == 1
