import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from cli.conftest import configure
from cli.documents import KEY, OAT, document, put
from cli.harness import Outcome, begin, end, tokenferry
from tokenferry.claude_code.precedence import CLOUD_PROVIDERS
from tokenferry.clients import client_environment
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]

ASK = """
import json, os, sys, urllib.request
request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", method="POST")
request.add_header("authorization", "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"])
request.add_header("content-type", "application/json")
request.add_header("anthropic-version", "2023-06-01")
message = {"role": "user", "content": "ahoy"}
body = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [message]}
answer = json.load(urllib.request.urlopen(request, json.dumps(body).encode()))
print(answer["content"][0]["text"])
"""
ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def keyed(home: Home) -> Home:
    """A home with one API key."""
    put(home, document(time.time(), name="key", provider="anthropic", kind="api-key", credential={"key": KEY}), "key")
    return home


def python(*arguments: str) -> list[str]:
    return ["run", "--", sys.executable, "-c", *arguments]


def test_the_program_reaches_the_provider_with_a_key_of_its_own(sandbox: Sandbox, login: Login) -> None:
    login()
    outcome = tokenferry(*python(ASK))
    assert outcome.code == 0, outcome.err
    assert "you said: ahoy" in outcome.out


def test_an_expired_login_is_renewed_for_it(sandbox: Sandbox, login: Login) -> None:
    login(expires_in=-60)
    assert tokenferry(*python(ASK)).code == 0
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 1


def test_account_pins_the_one_to_use(sandbox: Sandbox, login: Login) -> None:
    login("a", of="alice")
    login("b", of="bob")
    assert tokenferry("run", "--account", "b", "--", sys.executable, "-c", ASK).code == 0
    counters = sandbox.counters()["accounts"]
    assert sandbox.requests()[-1]["account"] == "bob"
    assert counters["alice"]["requests"] == 0
    unknown = tokenferry("run", "--account", "nobody", "--", "true")
    assert unknown.code == 4
    assert "nobody" in unknown.one_line()


def test_its_environment_holds_the_one_off_key_and_no_other_credential(sandbox: Sandbox, login: Login) -> None:
    issued = login()
    shadows = {
        "ANTHROPIC_API_KEY": "sk-ant-api03-shadow",
        "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-shadow",
        "ANTHROPIC_PROFILE": "shadow",
        "ANTHROPIC_FEDERATION_RULE_ID": "shadow",
        "ANTHROPIC_IDENTITY_TOKEN": "shadow",
        "ANTHROPIC_UNIX_SOCKET": "shadow",
        **dict.fromkeys(CLOUD_PROVIDERS, "1"),
        "ANTHROPIC_FOUNDRY_API_KEY": "shadow",
        "ANTHROPIC_BEDROCK_BASE_URL": "https://shadow.example",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR": "shadow",
        "ANTHROPIC_MODEL": "kept",
        "NO_PROXY": "example.com",
    }
    outcome = tokenferry(*python(ENVIRONMENT), **shadows)
    child = outcome.json
    assert child["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert child["ANTHROPIC_AUTH_TOKEN"].startswith("tfk_")
    assert child["ANTHROPIC_MODEL"] == "kept"
    assert child["NO_PROXY"] == child["no_proxy"] == "example.com,127.0.0.1,localhost"
    assert not any(name.startswith("CLAUDE_CODE_USE") for name in child)
    assert "shadow" not in json.dumps(child)
    assert issued["access_token"] not in json.dumps(child)
    again = tokenferry(*python(ENVIRONMENT)).json
    assert again["ANTHROPIC_AUTH_TOKEN"] != child["ANTHROPIC_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("script", "code"),
    [("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)],
)
def test_its_exit_code_is_passed_on(keyed: Home, script: str, code: int) -> None:
    assert tokenferry(*python(script)).code == code


def test_its_own_options_are_its_own(keyed: Home) -> None:
    outcome = tokenferry("run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--account", "--help", "-v")
    assert outcome.out == "['--account', '--help', '-v']\n"


def test_a_program_that_is_not_there_or_can_not_run_is_reported(keyed: Home) -> None:
    missing = tokenferry("run", "--", "no-such-program-here")
    assert missing.code == 127
    assert "not found" in missing.one_line()
    file = keyed.path / "file"
    file.write_text("")
    assert tokenferry("run", "--", str(file)).code == 126
    assert tokenferry("run").code == 2


SURVIVES = """
import signal, sys
numbers = {signal.SIGTERM, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
sys.exit(40 + len({signal.sigwait(numbers), signal.sigwait(numbers)}))
"""


def test_term_and_hup_are_passed_on_and_ctrl_c_is_left_to_it(keyed: Home) -> None:
    process = begin(*python(SURVIVES))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)  # as meant for us alone: the program isn't told, and we go on
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    outcome = end(process)
    assert (outcome.code, outcome.err) == (42, "")


def subscription(**changes: Any) -> dict[str, Any]:
    return document(time.time(), provider="claude-max", **changes)


def test_without_an_account_it_says_how_to_add_one(home: Home, inside: Inside) -> None:
    outcome = inside("run", "--", "true")
    assert (outcome.code, "account add" in outcome.one_line()) == (4, True)


@pytest.mark.parametrize(
    "settings",
    [
        '[router]\naccount = "nobody"\n',
        '[router]\nproviders = ["console"]\n',
        '[[providers]]\nname = "anthropic"\nenabled = false\n',
        '[router]\naccount = "key"\n[[providers]]\nname = "anthropic"\nenabled = false\n',
    ],
)
def test_a_configuration_that_lets_no_account_serve_is_refused(keyed: Home, inside: Inside, settings: str) -> None:
    configure(keyed, "http://127.0.0.1:1", settings)
    outcome = inside("run", "--", "true")
    assert (outcome.code, outcome.one_line() != "") == (3, True)


def test_a_dead_login_is_refused_with_the_command_that_renews_it(home: Home, inside: Inside) -> None:
    put(home, document(time.time(), credential={"access_token": "fake-used-up", "expires_at": 1_700_000_000}))
    outcome = inside("run", "--", "true")
    assert (outcome.code, "tokenferry login work" in outcome.one_line()) == (5, True)
    put(home, document(time.time(), name="spare"), "spare")
    assert inside("run", "--", "true").code == 0
    assert inside("run", "--account", "work", "--", "true").code == 5


@pytest.mark.parametrize("owned", [True, False], ids=["a login of ours", "a setup token"])
def test_a_subscription_is_handed_to_no_program_and_its_name_proves_nothing(
    home: Home,
    inside: Inside,
    owned: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    put(home, subscription() if owned else subscription(kind="setup-token", credential={"token": OAT}))
    for program in ("true", "claude", "/tmp/claude"):
        outcome = inside("run", "--", program)
        assert (outcome.code, outcome.out) == (7, "")
        assert ("tokenferry claude-code switch work" in outcome.one_line()) is owned


def test_where_the_login_is_claude_codes_own_the_program_starts_as_without_us(
    home: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"accessToken": OAT, "refreshToken": "fake-refresh", "expiresAt": 4_000_000_000_000}
    folder = home.path.parent / "person" / ".claude"
    folder.mkdir(mode=0o700)
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))
    (folder / ".credentials.json").chmod(0o600)
    assert inside("claude-code", "attach", "mine").code == 0
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-own: kept")
    outcome = inside(*python(ENVIRONMENT))
    assert outcome.json == dict(os.environ)
    assert outcome.err.count("\n") == 1
    assert "the program starts without a gateway" in outcome.err
    put(home, document(time.time(), name="key", provider="anthropic", kind="api-key", credential={"key": KEY}), "key")
    assert inside(*python(ENVIRONMENT)).json["ANTHROPIC_AUTH_TOKEN"].startswith("tfk_")
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "mine")
    assert inside(*python(ENVIRONMENT)).json == dict(os.environ)


def test_when_every_account_is_limited_it_warns_and_goes_on(keyed: Home, inside: Inside) -> None:
    with State(keyed.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", "key"), "rate", "test", until=int(time.time()) + 3000))
    outcome = inside("run", "--", "true")
    assert outcome.code == 0
    assert outcome.err.startswith("tokenferry: limited: account key: ")
    put(keyed, document(time.time(), name="b", provider="anthropic", kind="api-key", credential={"key": KEY}), "b")
    assert inside("run", "--", "true").err == ""


def test_a_variable_pins_the_account_and_is_named(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login("a", of="alice")
    login("b", of="bob")
    outcome = tokenferry(*python(ASK), TOKENFERRY_ACCOUNT="b")
    assert (outcome.code, outcome.err) == (0, "tokenferry: TOKENFERRY_ACCOUNT selects account b\n")
    assert sandbox.requests()[-1]["account"] == "bob"
    assert tokenferry("run", "--", "true", TOKENFERRY_ACCOUNT="nobody").code == 4


def test_the_account_in_use_serves_first(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login("a", of="alice")
    login("b", of="bob")
    assert inside("use", "b").code == 0
    assert tokenferry(*python(ASK)).code == 0
    assert sandbox.requests()[-1]["account"] == "bob"


@pytest.mark.parametrize(
    ("given", "upper", "lower"),
    [
        ({}, "127.0.0.1,localhost", "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.example"}, "a.example,127.0.0.1,localhost", "a.example,127.0.0.1,localhost"),
        ({"no_proxy": "b.example"}, "b.example,127.0.0.1,localhost", "b.example,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "a,127.0.0.1,localhost", "b,127.0.0.1,localhost"),
        ({"NO_PROXY": "*"}, "*", "*"),
        ({"no_proxy": " * ", "NO_PROXY": "a"}, "a,127.0.0.1,localhost", " * "),
        ({"NO_PROXY": "", "no_proxy": "b"}, "b,127.0.0.1,localhost", "b,127.0.0.1,localhost"),
    ],
)
def test_what_is_reached_without_a_proxy_still_is(given: dict[str, str], upper: str, lower: str) -> None:
    child = client_environment(given, "http://127.0.0.1:1", "tfk_x")
    assert (child["NO_PROXY"], child["no_proxy"]) == (upper, lower)


def test_only_the_accounts_that_requests_go_to_count(keyed: Home, inside: Inside) -> None:
    """One at another provider serves what maps to it, and nothing else."""
    used_up = {"access_token": "fake-used-up", "expires_at": 1_700_000_000}
    put(keyed, document(time.time(), name="dead", credential=used_up, created_at=1), "dead")
    put(keyed, document(time.time(), name="key", provider="anthropic", kind="api-key", credential={"key": KEY}), "key")
    assert inside("run", "--", "true").code == 5
    model = '[[models]]\nname = "m"\nmappings = [{ provider = "anthropic", actual_model = "m" }]\n'
    configure(keyed, "http://127.0.0.1:1", model)
    assert inside("run", "--", "true").code == 0
    configure(keyed, "http://127.0.0.1:1")
    assert inside("use", "key", "--default-provider").code == 0
    assert inside("run", "--", "true").code == 0
    assert inside("use", "key", "--default-provider", "--for", "claude-code").code == 2
