import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.documents import document, put
from cli.harness import Outcome, begin_serving, end, tokenferry
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State

Inside = Callable[..., Outcome]
Login = Callable[..., dict[str, Any]]


def test_an_empty_home_says_what_to_do_first(home: Home, inside: Inside) -> None:
    for arguments in ([], ["status"]):
        outcome = inside(*arguments)
        assert outcome.code == 0
        assert "tokenferry account add" in outcome.out
    assert "tokenferry sandbox" in inside().out


def test_with_accounts_the_bare_command_lists_them_and_what_comes_next(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    out = inside().out
    assert "fresh" in out
    assert "tokenferry token" in out


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("doctor",)])
def test_what_several_parts_find_wrong_is_said_once(home: Home, inside: Inside, arguments: tuple[str, ...]) -> None:
    put(home, document(time.time()))
    home.state.write_bytes(b"no database" * 500)
    home.state.chmod(0o600)
    said = inside(*arguments).err.splitlines()
    assert len([line for line in said if str(home.state) in line]) == 1
    assert len(said) == len(set(said))


def test_status_tells_of_home_policy_accounts_and_warnings(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(home, "http://127.0.0.1:1", f"[server]\napi_key = 'a'\nport = {silent.getsockname()[1]}\n")
        outcome = inside("status")
        assert "gateway     does not run; start it with: tokenferry serve" in outcome.out
    assert outcome.code == 0
    assert str(home.path) in outcome.out
    assert "subscriptions = claude-code-only" in outcome.out
    assert "server.api_key is a key of claude-code-mux that has no effect here" in outcome.err
    data = inside("status", "--json").json
    assert data["policy"] == {"subscriptions": "claude-code-only"}
    refreshes = data["accounts"][0]["refreshes"]
    assert (refreshes["grants"], refreshes["failures"], refreshes["last_failure"]) == (0, {}, None)
    assert data["gateway"]["listening"] is False
    assert len(data["warnings"]) == 1


def test_status_tells_how_much_an_account_may_be_asked(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    assert inside("status", "--json").json["accounts"][0]["limits"] == []
    configure(home, "http://127.0.0.1:1", "[pool]\ntokens_per_minute = 80_000\n")
    (name,) = [one["name"] for one in inside("status", "--json").json["accounts"]]
    assert f"limits      {name}: 80,000 tokens a minute, by [pool]\n" in inside("status").out
    assert inside("status", "--json").json["accounts"][0]["limits"] == ["80,000 tokens a minute, by [pool]"]


def test_status_counts_what_every_process_did(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login("work")
    assert tokenferry("refresh", "work").code == 0
    sandbox.fault("status", path="/v1/oauth/token", status=503)
    assert tokenferry("refresh", "work").code == 6
    [account] = inside("status", "--json").json["accounts"]
    assert account["refreshes"]["totals"] == {"granted": 1, "failed": 1}
    assert account["refreshes"]["last_failure"]["kind"] == "failed"
    assert 0 <= account["refreshes"]["token_age"] < 600


def test_status_tells_who_is_passed_over_and_until_when(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    assert inside("status", "--json").json["cooldowns"] == []
    assert not home.state.exists()
    until = int(time.time()) + 7500
    with State(home.state) as state:
        state.cooldowns.put(
            Cooldown(Scope("account", "work"), "window", "answer", until, "The account has used up its window 5h.")
        )
        state.cooldowns.put(Cooldown(Scope("organization", "org-1", "claude-opus"), "rate-limit", "answer", None))
        state.cooldowns.put(Cooldown(Scope("account", "done"), "window", "answer", 1_700_000_000))
        state.organizations.put("work", "org-1")
    out = inside("status").out
    assert "  account work: The account has used up its window 5h; until 20" in out
    assert "Z (2 h)\n" in out
    assert "  organization org-1 (accounts work), models of claude-opus: rate-limit; its end is not known\n" in out
    assert "done" not in out
    told = inside("status", "--json").json["cooldowns"]
    assert [(one["name"], one["cause"], one["until"]) for one in told] == [
        ("work", "window", until),
        ("org-1", "rate-limit", None),
    ]


def test_status_survives_a_state_that_cannot_be_read(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    home.state.write_bytes(b"no database" * 1000)
    home.state.chmod(0o600)
    outcome = inside("status", "--json")
    assert (outcome.code, outcome.json["cooldowns"]) == (0, None)
    assert str(home.state) in outcome.err


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_running_gateway_is_found_wherever_it_listens_and_a_killed_one_is_stale(
    home: Home, sandbox: Sandbox, inside: Inside, tmp_path: Path, options: tuple[str, ...]
) -> None:
    def found() -> tuple[str, bool, list[bool]]:
        gateway: dict[str, Any] = inside("status", "--json").json["gateway"]
        return gateway["url"], gateway["listening"], [record["running"] for record in gateway["records"]]

    usual = ("http://127.0.0.1:13456", False)
    process, url = begin_serving(tmp_path, *options)
    assert found() == (url, True, [True])
    process.kill()
    process.wait()
    assert found() == (*usual, [False])
    assert f"stale record of {url} (process {process.pid})" in inside("status").out
    assert inside("token", "--gateway").code == 6
    [finding] = [one for one in inside("doctor", "--json").json if "stale" in one["what"]]
    assert url in finding["what"]
    (tmp_path / "port").unlink()
    process, url = begin_serving(tmp_path, *options)
    assert found() == (url, True, [True])
    process.terminate()
    assert end(process).code == 0
    assert found() == (*usual, [])


def test_a_configuration_with_several_faults_lists_each(home: Home, inside: Inside) -> None:
    configure(home, "http://127.0.0.1:1", "[server]\nprot = 1\nhots = 1\n")
    outcome = inside("status")
    assert outcome.code == 3
    first, *rest = outcome.err.splitlines()
    assert first.startswith("tokenferry: ")
    assert len(rest) == 2
    assert all(": server." in line for line in rest)


def test_a_gateway_that_runs_is_asked_what_it_serves(home: Home, inside: Inside, tmp_path: Path) -> None:
    """It goes by another configuration than the home's, so only it can know."""
    put(home, document(time.time()))
    other = tmp_path / "other.toml"
    other.write_text('[router]\nproviders = ["anthropic"]\n')
    other.chmod(0o600)
    configure(home, "http://127.0.0.1:1", "[server]\nport = 0\n")
    assert [one["status"] for one in inside("status", "--json").json["serving"]] == [200]
    process, _ = begin_serving(tmp_path, "--config", str(other))
    (told,) = inside("status", "--json").json["serving"]
    assert (told["model"], told["status"]) == (None, 503)
    assert "[router] providers" in told["reason"]
    assert "serves      a model that nothing maps: nothing serves it, a client gets 503" in inside("status").out
    assert "no account serves it" in inside("doctor").out
    process.terminate()
    assert "a client gets 503: none of [router] providers can serve" in end(process).out
