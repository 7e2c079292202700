"""Budgets from end to end: `serve` refuses what they do not allow, and every command says the same of them."""

import sys
import time
from pathlib import Path

import pytest

from cli.conftest import configure
from cli.harness import eventually, tokenferry
from cli.test_failover import Gate
from cli.test_key import Inside, Login
from tokenferry.budgets import Span
from tokenferry.ledger import Ledger, UsageReport
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

ASK = """
import os, urllib.error, urllib.request
key = os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ["ANTHROPIC_API_KEY"]
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
request = urllib.request.Request(url, b"{}", {"x-api-key": key, "content-type": "application/json"})
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_budget_holds_over_workers_and_restarts_and_every_command_shows_it(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path, workers: str
) -> None:
    """The fake provider's answers cost some cents by the list, so a few of them use it up."""
    budget = '[[budgets]]\nlimit = "0.003usd/total"\ncounts = "list"\nblocked_message = "ask Ann"\n'
    configure(home, sandbox.url, f"[server]\nworkers = {workers}\n{budget}")
    login()
    gate = Gate(tmp_path)
    for _ in range(200):
        answer = gate.ask()
        if answer.status_code == 200:
            assert answer.headers["anthropic-ratelimit-unified-representative-claim"] == "overage"
        elif answer.json()["error"]["type"] == "billing_error":
            break
        time.sleep(0.02)
    assert answer.status_code == 429
    message = answer.json()["error"]["message"]
    assert message == "the budget of $0.003 in total for all client keys is used up; ask Ann"
    assert answer.headers["x-should-retry"] == "false"
    assert gate.ask(path="/v1/messages/count_tokens").status_code != 429
    refused = "refused   429: the budget of $0.003 in total"
    eventually(lambda: refused in tokenferry("explain", "route").out)  # an idle worker learns of it within a second
    told = tokenferry("explain", "request", answer.headers["x-tokenferry-request-id"])
    assert message in told.out
    gate.end()

    again = Gate(tmp_path)
    assert again.ask().json()["error"]["message"] == message
    (served, *_) = [
        one
        for one in tokenferry("explain", "request", "--json").json
        if one["path"] == "/v1/messages" and one["status"] == 200
    ]
    assert "budget" in tokenferry("explain", "request", served["request_id"]).out
    again.end()

    with Ledger(home.ledger) as ledger:
        used = UsageReport(ledger).spending([Span(0, 4_102_444_800_000)])
    assert refused in tokenferry("explain", "route").out
    status = tokenferry("status", "--json").json["budgets"]
    assert [one["used"] for one in status] == [sum(one.listed for one in used[0].values()) / 1e6]
    assert "all client keys: $0.0" in tokenferry("status").out
    assert "the budget for all client keys: is used up" in tokenferry("doctor").err
    assert "budget of all client keys: $0.0" in tokenferry("usage", "daily").err


def test_a_budget_of_a_key_counts_within_a_second_and_is_shown_with_it(
    sandbox: Sandbox, home: Home, login: Login, tmp_path: Path
) -> None:
    login()
    gate = Gate(tmp_path)
    assert gate.ask().status_code == 200
    tokenferry("key", "set", "local", "--budget", "0usd/day")
    eventually(lambda: gate.ask().status_code == 429)
    assert "for client key local is used up until" in gate.ask().json()["error"]["message"]
    tokenferry("key", "set", "local", "--no-budget", "--label", "group=people")
    eventually(lambda: gate.ask().status_code == 200)
    configure(home, sandbox.url, '[[budgets]]\nsubject = "group:people"\nlimit = "0tokens/week"\n')
    eventually(lambda: gate.ask().status_code == 429)
    shown = tokenferry("key", "show", "local")
    assert "group people:" in shown.out
    assert "of 0 tokens a week used" in shown.out
    gate.end()


def test_a_key_whose_budget_is_used_up_is_said_to_be_so(home: Home, inside: Inside) -> None:
    inside("key", "create", "laptop", "--budget", "0usd/day")
    inside("key", "create", "other")
    words = {line.split()[0]: line for line in inside("key", "list").out.splitlines()}
    assert "used up" in words["laptop"]
    assert "live" in words["other"]
    assert "used up" in inside("key", "show", "laptop").out
    assert inside("key", "show", "laptop", "--json").json["state"] == "live"


def test_a_budget_that_is_about_no_key_is_found(home: Home, inside: Inside) -> None:
    home.config.write_text('[[budgets]]\nsubject = "key:nobody"\nlimit = "1usd/day"\n')
    home.config.chmod(0o600)
    inside("key", "create", "laptop")
    assert "is about client key nobody" in inside("doctor").out


def test_run_holds_to_the_budgets_of_everybody(sandbox: Sandbox, home: Home, login: Login) -> None:
    configure(home, sandbox.url, '[[budgets]]\nlimit = "0usd/day"\n')
    login()
    outcome = tokenferry("run", "--", sys.executable, "-c", ASK)
    assert "billing_error" in outcome.out
