import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.harness import tokenferry
from effort import effort
from tokenferry.accounts import machine_id
from tokenferry.broker import Broker
from tokenferry.cli._fast import fresh_token
from tokenferry.settings import Home

ACCESS = "fake-access-" + "a" * 40
OAT = "sk-ant-oat01-" + "b" * 90
KEY = "sk-ant-api03-" + "c" * 40

Change = Callable[[Home, dict[str, Any]], object]


def document(now: float, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "generation": 3,
        "machine": machine_id(),
        "name": "work",
        "provider": "sandbox",
        "kind": "oauth",
        "owner": "tokenferry",
        "labels": {},
        "priority": 100,
        "created_at": 1_700_000_000,
        "credential": {"access_token": ACCESS, "refresh_token": "fake-refresh", "expires_at": int(now) + 7200},
    } | changes


def put(home: Home, data: dict[str, Any] | bytes, name: str = "work") -> Path:
    home.accounts.mkdir(mode=0o700, exist_ok=True)
    path = home.accounts / f"{name}.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    path.chmod(0o600)
    return path


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def by_the_broker(name: str | None, min_ttl: int) -> str:
    broker = Broker.from_home(Home.from_environment())
    try:
        return broker.resolve(name, min_ttl=min_ttl).secret.reveal()
    finally:
        broker.drain(10)


SERVED: dict[str, Change] = {
    "an OAuth login of the sandbox": lambda home, data: None,
    "an API key": lambda home, data: data.update(provider="anthropic", kind="api-key", credential={"key": KEY}),
    "a Console login": lambda home, data: (
        data.update(provider="console"),
        data["credential"].update(access_token=OAT),
    ),
    "a workload's token at the vendor's": lambda home, data: (
        data.update(provider="anthropic", kind="federated"),
        data["credential"].update(access_token=OAT, identity_token_file="/identity", federation={"a": "b"}),
    ),
    "a login that can't be renewed": lambda home, data: data["credential"].pop("refresh_token"),
    "one of another machine": lambda home, data: data.update(machine="another"),
    "the account in use": lambda home, data: (put(home, b"{}", "other"), write(home.active, "work\n")),
    "keys that a later version wrote": lambda home, data: data.update(later={"a": 1}),
    "the subscription's own provider, amended": lambda home, data: write(
        home.config, '[[providers]]\nname = "claude-max"\nenabled = false\n'
    ),
    "a sandbox on another port": lambda home, data: write(
        home.config, '[[providers]]\nname = "sandbox"\nbase_url = "http://127.0.0.1:1"\n'
    ),
    "harmless settings": lambda home, data: write(
        home.config, '[server]\nport = 1\nhost = "::1"\n[log]\nlevel = "debug"\n[router]\naccount = "work"\n'
    ),
    "a config.toml that others may read": lambda home, data: write(home.config, "[server]\nport = 1\n", 0o644),
}

LEFT: dict[str, Change] = {
    "an expired token": lambda home, data: data["credential"].update(expires_at=int(time.time()) - 60),
    "one that soon expires": lambda home, data: data["credential"].update(expires_at=int(time.time()) + 500),
    "a login of unknown expiry": lambda home, data: data["credential"].pop("expires_at"),
    "a setup token": lambda home, data: data.update(kind="setup-token", credential={"token": OAT}),
    "a subscription's token as a login": lambda home, data: (
        data.update(provider="anthropic"),
        data["credential"].update(access_token=OAT),
    ),
    "a subscription's token as a key": lambda home, data: data.update(
        provider="anthropic", kind="api-key", credential={"key": OAT}
    ),
    "a subscription's Console login": lambda home, data: (
        data.update(provider="console"),
        data["credential"].update(access_token=OAT, subscription_type="max"),
    ),
    "a workload that says where from twice": lambda home, data: (
        data.update(kind="federated"),
        data["credential"].update(identity_token_file="/identity", identity_token_variable="IDENTITY"),
    ),
    "a workload that doesn't say where from": lambda home, data: data.update(kind="federated"),
    "the subscription's provider": lambda home, data: data.update(provider="claude-max"),
    "a provider of the user's own": lambda home, data: data.update(provider="mine"),
    "somebody else's chain": lambda home, data: data.update(owner="claude-code"),
    "milliseconds": lambda home, data: data["credential"].update(expires_at=int(time.time() * 1000) + 10**7),
    "a document of a later version": lambda home, data: data.update(version=2),
    "a document of another account": lambda home, data: data.update(name="other"),
    "a token with a line break": lambda home, data: data["credential"].update(access_token="fake\r\nx: y"),
    "an empty token": lambda home, data: data["credential"].update(access_token=""),
    "a number for a label": lambda home, data: data["labels"].update(a=1),
    "a number for a machine": lambda home, data: data.update(machine=1),
    "no credential": lambda home, data: data.pop("credential"),
    "a number for a scope": lambda home, data: data["credential"].update(scopes=[1]),
    "a config.toml that others may write": lambda home, data: write(home.config, "[server]\n", 0o622),
    "a config.toml with a mistake": lambda home, data: write(home.config, "[servers]\n"),
    "a config.toml that is no TOML": lambda home, data: write(home.config, "]["),
    "a provider amended": lambda home, data: write(
        home.config, '[[providers]]\nname = "sandbox"\nbase_url = "http://127.0.0.1:1"\nsubscription = true\n'
    ),
    "a provider elsewhere": lambda home, data: write(
        home.config, '[[providers]]\nname = "sandbox"\nbase_url = "https://api.anthropic.com"\n'
    ),
    "an account from the configuration": lambda home, data: write(
        home.config, '[[providers]]\nname = "anthropic"\napi_key = "$A_VARIABLE"\n'
    ),
    "a file for the account in use that others may read": lambda home, data: write(home.active, "work\n", 0o644),
    "a second account and none chosen": lambda home, data: put(home, b"{}", "other"),
    "a folder that others may write": lambda home, data: home.path.chmod(0o770),
}


@pytest.mark.parametrize("what", SERVED)
def test_what_is_usual_and_fresh_is_served_at_once_and_as_the_broker_would(home: Home, what: str) -> None:
    data = document(time.time())
    SERVED[what](home, data)
    put(home, data)
    token = fresh_token([])
    assert token == by_the_broker(None, 600)
    assert tokenferry("token").out == f"{token}\n"


@pytest.mark.parametrize("what", LEFT)
def test_what_is_unusual_is_left_to_the_broker(home: Home, what: str) -> None:
    data = document(time.time())
    LEFT[what](home, data)
    put(home, data)
    assert fresh_token([]) is None


@pytest.mark.parametrize("how", ["symlink", "fifo", "mode", "large", "folder"])
def test_a_file_that_is_not_safe_is_left_to_the_broker_which_refuses_it(home: Home, tmp_path: Path, how: str) -> None:
    path = put(home, document(time.time()))
    if how == "symlink":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "fifo":
        path.unlink()
        os.mkfifo(path, 0o600)
    elif how == "mode":
        path.chmod(0o640)
    elif how == "large":
        write(path, " " * 5_000_000)
    else:
        home.accounts.chmod(0o720)
    assert fresh_token(["work"]) is None
    outcome = tokenferry("token", "work")
    assert outcome.code == 8
    assert outcome.one_line()


@pytest.mark.parametrize("arguments", [["work"], ["--min-ttl", "7000"], ["work", "--min-ttl=7000"]])
def test_a_name_and_a_min_ttl_are_understood(home: Home, arguments: list[str]) -> None:
    put(home, document(time.time()))
    assert fresh_token(arguments) == ACCESS


@pytest.mark.parametrize("form", ["--env", "--json"])
@pytest.mark.parametrize("what", SERVED)
def test_another_form_is_served_at_once_and_as_the_slow_way_prints_it(home: Home, what: str, form: str) -> None:
    data = document(time.time())
    SERVED[what](home, data)
    put(home, data)
    text = fresh_token(["work", form])
    assert text is not None
    # --account is left to the broker.
    assert tokenferry("token", "--account", "work", form).out == tokenferry("token", form, "work").out == f"{text}\n"


def test_a_token_that_a_shell_would_read_otherwise_is_left_to_the_broker(home: Home) -> None:
    data = document(time.time())
    data["credential"]["access_token"] = "fake-$(id)'x"
    put(home, data)
    assert fresh_token(["--env"]) is None
    assert tokenferry("token", "--env").out.startswith("ANTHROPIC_AUTH_TOKEN='fake-$(id)'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--env", "--json"],
        ["--env", "--env"],
        ["--env=work"],
        ["--min-ttl", "8000"],
        ["--min-ttl"],
        ["--min-ttl", "-1"],
        ["--min-ttl", "\u00b2"],
        ["--min-ttl=1e3"],
        ["--min-ttlx", "1"],
        ["--account", "work"],
        ["--gateway"],
        ["work", "work"],
        ["nobody"],
        ["../work"],
        [""],
        ["--help"],
    ],
)
def test_all_other_arguments_are_left_to_the_broker(home: Home, arguments: list[str]) -> None:
    put(home, document(time.time()))
    assert fresh_token(arguments) is None


def test_the_account_is_chosen_in_the_order_of_argument_variable_use_and_sole_presence(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(*arguments: str) -> str:
        token = fresh_token(list(arguments))
        assert token is not None
        assert token == by_the_broker(arguments[0] if arguments else None, 600)
        return token

    for name in ("a", "b", "c"):
        login = document(time.time(), name=name)
        login["credential"]["access_token"] = f"token-of-{name}"
        put(home, login, name)
    assert fresh_token([]) is None
    write(home.active, "b\n")
    assert serve() == "token-of-b"
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "c")
    assert serve() == "token-of-c"
    assert serve("a") == "token-of-a"


@pytest.mark.parametrize(
    "variables",
    [{}, {"HOME": "."}, {"TOKENFERRY_HOME": ""}, {"TOKENFERRY_HOME": "~/home"}, {"TOKENFERRY_HOME": "home"}],
)
def test_a_home_that_must_be_looked_for_is_left_to_the_broker(
    home: Home, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    put(home, document(time.time()))
    monkeypatch.chdir(home.path.parent)
    assert fresh_token([], variables) is None


def test_without_a_named_home_it_is_the_one_in_the_persons_folder(home: Home, tmp_path: Path) -> None:
    put(home, document(time.time()))
    (tmp_path / ".local" / "share").mkdir(mode=0o700, parents=True)
    home.path.rename(tmp_path / ".local" / "share" / "tokenferry")
    assert fresh_token([], {"HOME": str(tmp_path)}) == ACCESS


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**63),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from([ACCESS, OAT, KEY, "", "tokenferry", "external", "oauth", "api-key", "console", "anthropic", "1"]),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
paths = st.sampled_from(
    [
        *((key,) for key in document(0)),
        *(
            ("credential", key)
            for key in (
                "access_token",
                "key",
                "refresh_token",
                "expires_at",
                "obtained_at",
                "refresh_expires_at",
                "lifetime",
                "scopes",
                "subscription_type",
                "email",
                "source",
                "identity_token_file",
                "identity_token_variable",
                "federation",
            )
        ),
    ]
)


@settings(max_examples=effort(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(paths, odd_values), max_size=3),
    st.sampled_from(["sandbox", "console", "anthropic"]),
    st.sampled_from(["oauth", "api-key", "federated"]),
    st.integers(0, 10_000),
)
def test_whatever_a_document_holds_a_quick_answer_is_the_brokers(
    home: Home, changes: list[tuple[tuple[str, ...], Any]], provider: str, kind: str, min_ttl: int
) -> None:
    data = document(time.time(), provider=provider, kind=kind)
    data["credential"] |= {"key": KEY, "identity_token_file": "/identity"}
    for path, value in changes:
        table = data
        for key in path[:-1]:
            table = table[key] if isinstance(table.get(key), dict) else {}
        table[path[-1]] = value
    put(home, data)
    token = fresh_token(["work", "--min-ttl", str(min_ttl)])
    if token is not None:
        assert token == by_the_broker("work", min_ttl)
