import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli.harness import begin, end, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

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
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "ANTHROPIC_MODEL": "kept",
        "NO_PROXY": "example.com",
    }
    outcome = tokenferry(*python(ENVIRONMENT), **shadows)
    child = outcome.json
    assert child["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert child["ANTHROPIC_AUTH_TOKEN"].startswith("tfk_")
    assert child["ANTHROPIC_MODEL"] == "kept"
    assert child["NO_PROXY"] == "example.com,127.0.0.1,localhost"
    assert "shadow" not in json.dumps(child)
    assert issued["access_token"] not in json.dumps(child)
    again = tokenferry(*python(ENVIRONMENT)).json
    assert again["ANTHROPIC_AUTH_TOKEN"] != child["ANTHROPIC_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("script", "code"),
    [("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)],
)
def test_its_exit_code_is_passed_on(sandbox: Sandbox, script: str, code: int) -> None:
    assert tokenferry(*python(script)).code == code


def test_its_own_options_are_its_own(sandbox: Sandbox) -> None:
    outcome = tokenferry("run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--account", "--help", "-v")
    assert outcome.out == "['--account', '--help', '-v']\n"


def test_a_program_that_is_not_there_or_can_not_run_is_told_of(home: Home) -> None:
    missing = tokenferry("run", "--", "no-such-program-here")
    assert missing.code == 127
    assert "not found" in missing.one_line()
    file = home.path / "file"
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


def test_term_and_hup_are_passed_on_and_ctrl_c_is_left_to_it(sandbox: Sandbox) -> None:
    process = begin(*python(SURVIVES))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)  # as meant for us alone: the program isn't told, and we go on
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    outcome = end(process)
    assert (outcome.code, outcome.err) == (42, "")
