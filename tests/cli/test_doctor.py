import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.documents import KEY, OAT, document, put
from cli.harness import Outcome
from tokenferry.ledger import Ledger
from tokenferry.refresh import _flow
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home
from tokenferry.state import local_key
from tokenferry.stores import _replaceable

Inside = Callable[..., Outcome]
FEDERATED = {"access_token": "fake-access", "identity_token_file": "/none/identity", "expires_at": 4_000_000_000}

Login = Callable[..., dict[str, Any]]


@pytest.fixture
def free_port(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    configure(home, "http://127.0.0.1:1", f"[server]\nport = {port}\n")


@pytest.fixture
def sound(home: Home, free_port: None) -> Home:
    """A home with all that a healthy one has."""
    put(home, document(time.time()))
    local_key(home)
    return home


def test_a_sound_home_is_clean(sound: Home, inside: Inside) -> None:
    outcome = inside("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    assert "no problem was found" in outcome.out
    assert inside("doctor", "--json").json == []


def test_each_finding_is_reported_once(sound: Home, inside: Inside) -> None:
    sound.config.unlink()
    os.mkfifo(sound.config, 0o600)
    found = inside("doctor", "--json").json
    assert [one["what"] for one in found if one["where"] == str(sound.config)] == ["is not a regular file"]


def test_two_accounts_with_one_login_are_found(sound: Home, inside: Inside) -> None:
    put(sound, document(time.time(), name="twin"), "twin")
    assert inside("doctor", "--json").json == [
        {
            "what": "has the login of account twin: the first that is refreshed logs the other out",
            "where": "account work",
            "cure": "tokenferry account remove work --keep-remote",
        }
    ]


def test_a_finding_names_its_account_once(sound: Home, inside: Inside) -> None:
    put(sound, document(time.time(), name="lost", provider="gone"), "lost")
    (finding,) = [one for one in inside("doctor", "--json").json if one["where"] == "account lost"]
    assert finding["what"].startswith("belongs to provider 'gone', which is not declared")
    assert finding["cure"] == "declare it under [[providers]] in config.toml"


def test_a_file_that_is_no_toml_is_one_finding_wherever_it_is_read(sound: Home, inside: Inside) -> None:
    with Ledger(sound.ledger):
        pass
    sound.config.write_text("[store]\n[store]\n")
    outcome = inside("doctor", "--json")
    assert outcome.err.count("TOML") <= 1
    found = [one for one in outcome.json if "TOML" in one["what"]]
    assert [(one["where"], one["cure"]) for one in found] == [
        (str(sound.config), "correct it with: tokenferry config edit")
    ]
    assert found[0]["what"].startswith("is not valid TOML: ")


def test_a_warning_names_the_configuration_once(sound: Home, inside: Inside) -> None:
    with sound.config.open("a") as file:
        file.write('[[providers]]\nname = "mine"\nbase_url = "https://x.example"\napi_key = "$NOT_SET_HERE"\n')
    (finding,) = inside("doctor", "--json").json
    assert finding["where"] == str(sound.config)
    assert finding["what"].startswith("providers.mine.api_key names NOT_SET_HERE")


def test_a_login_that_could_not_be_renewed_on_this_disk_is_named(
    sound: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = [path.name for path in sound.accounts.iterdir()]
    monkeypatch.setattr(_replaceable, "_is_mounted", lambda path, *_: path.name in mounted)
    found = inside("doctor", "--json").json
    assert [one["where"] for one in found] == [f"account {name.removesuffix('.json')}" for name in sorted(mounted)]
    assert all("mount point of its own" in one["what"] for one in found)
    assert all(one["cure"].startswith("mount its folder") for one in found)


@pytest.mark.parametrize("name", ["journal", "locks"])
def test_a_folder_without_which_nothing_is_renewed_is_named_if_it_is_read_only(
    sound: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = sound.path / name
    folder.mkdir(mode=0o700, exist_ok=True)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, *rest, **more: Path(path) != folder and may(path, *rest, **more))
    outcome = inside("doctor")
    assert outcome.code == 1
    assert f"{folder}: can't be written to: tokens are not refreshed" in outcome.out


def test_a_home_that_is_not_there_yet_is_clean(home: Home, free_port: None, inside: Inside) -> None:
    assert inside("doctor").code == 0


def _symlink(home: Home) -> None:
    (home.path / "copy").symlink_to(home.config)


def _leftover(home: Home) -> None:
    path = home.accounts / ".work.json.tmp.12345678"
    path.write_text("{}")
    path.chmod(0o600)
    os.utime(path, (time.time() - 600,) * 2)


def _orphan(home: Home) -> None:
    home.journal.mkdir(mode=0o700, exist_ok=True)
    path = home.journal / "gone.attempt"
    path.write_text("")
    path.chmod(0o600)


def _login(home: Home, **credential: Any) -> None:
    data = document(time.time())
    data["credential"] |= credential
    put(home, data)


TROUBLES: dict[str, tuple[Callable[[Home], object], str, str]] = {
    "readable": (lambda home: (home.accounts / "work.json").chmod(0o644), "mode 0644", "chmod 0600"),
    "folder": (lambda home: home.accounts.chmod(0o755), "see which accounts", "chmod 0700"),
    "writable folder": (lambda home: home.path.chmod(0o777), "replace the files", "chmod 0700"),
    "lock": (lambda home: _private(home.locks / "a.lock", "").chmod(0o666), "mode 0666", "chmod 0600"),
    "symlink": (_symlink, "symbolic link", "put the file itself there"),
    "leftover": (_leftover, "killed writer", "rm "),
    "future": (lambda home: os.utime(home.local_key, (time.time() + 9999,) * 2), "future", "timedatectl"),
    "obtained": (lambda home: _login(home, obtained_at=int(time.time()) + 9999), "future", "timedatectl"),
    "config": (lambda home: home.config.write_text("[servre]\n"), "did you mean server?", "edit "),
    "warning": (lambda home: home.config.write_text("[server]\nport=0\napi_key='a'\n"), "has no effect", "edit "),
    "broken": (lambda home: put(home, b"{", "torn"), "isn't a JSON object", "move it away"),
    "no refresh token": (
        lambda home: _login(home, expires_at=1, refresh_token=None),
        "no refresh token",
        "tokenferry login work",
    ),
    "expired refresh token": (
        lambda home: _login(home, refresh_expires_at=1),
        "refresh token has expired",
        "tokenferry login work",
    ),
    "identity token": (
        lambda home: put(home, document(time.time(), kind="federated") | {"credential": FEDERATED}),
        "file /none/identity can't be read (No such file or directory)",
        "check the platform",
    ),
    "copied": (
        lambda home: put(home, document(time.time(), machine="another")),
        "copied from another machine",
        "tokenferry account confirm work",
    ),
    "unknown provider": (lambda home: put(home, document(time.time(), provider="mine")), "'mine'", "config.toml"),
    "orphan": (_orphan, "no more", "rm "),
    "state": (lambda home: home.state.write_bytes(b"x" * 5000), "is damaged", "key create"),
    "local key": (lambda home: home.local_key.write_text("x\n"), "holds no key", "serve makes a new one"),
    "in use": (lambda home: _private(home.active, "nobody\n"), "does not exist", "tokenferry use NAME"),
}


def _private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_found_with_its_place_and_cure(sound: Home, inside: Inside, trouble: str) -> None:
    make, what, cure = TROUBLES[trouble]
    for side in ("-wal", "-shm"):
        sound.state.with_name(sound.state.name + side).unlink(missing_ok=True)
    make(sound)
    outcome = inside("doctor", "--json")
    assert outcome.code == 1
    found = [finding for finding in outcome.json if what in finding["what"]]
    assert found, outcome.out
    assert cure in found[0]["cure"], found
    assert found[0]["where"]
    told = inside("doctor")
    assert told.code == 1
    assert f"  cure: {found[0]['cure']}" in told.out


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_PROFILE"])
def test_a_variable_that_programs_read_first_is_found(
    sound: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, KEY)
    outcome = inside("doctor", "--json")
    assert [finding["where"] for finding in outcome.json] == [name]
    assert outcome.hides(KEY)


def test_a_key_of_our_own_gateway_in_a_variable_is_as_it_should_be(
    sound: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "tfk_" + "x" * 43)
    assert inside("doctor").code == 0
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "nobody")
    assert "TOKENFERRY_ACCOUNT" in inside("doctor").out


def test_a_held_port_is_found_with_who_holds_it(home: Home, inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        configure(home, "http://127.0.0.1:1", f"[server]\nport = {server.getsockname()[1]}\n")
        (finding,) = inside("doctor", "--json").json
    assert "in use by process" in finding["what"]


def test_what_grants_left_behind_is_found(
    home: Home, sandbox: Sandbox, login: Login, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(home, sandbox.url, "[server]\nport = 0\n")
    login(expires_in=-60)
    sandbox.fault("lose_answer", path="/v1/oauth/token")
    assert inside("token").code == 6
    (finding,) = inside("doctor", "--json").json
    assert finding["what"].startswith("uncertain")
    assert "tokenferry refresh work" in finding["cure"]
    sandbox.revoke("alice", "family")
    assert inside("token").code == 6, "no sooner than 120 s is it presented once more"
    monkeypatch.setattr(_flow, "_SECOND_PRESENTATION", 0.0)
    assert inside("token").code == 5
    (finding,) = inside("doctor", "--json").json
    assert finding["what"].startswith("needs login")


def test_what_no_account_serves_is_a_finding_only_where_service_is_expected(sound: Home, inside: Inside) -> None:
    _login(sound, expires_at=1, refresh_token=None)
    sound.default_provider.write_text("sandbox\n")
    sound.default_provider.chmod(0o600)
    told = "a model that nothing maps: no account serves it, and a client gets 503"
    outcome = inside("doctor")
    assert told in outcome.err
    assert told not in outcome.out
    assert inside("key", "create", "guest").code == 0
    assert told in inside("doctor").out
    assert "a model that nothing maps" in [one["where"] for one in inside("doctor", "--json").json]


def test_one_of_several_reasons_is_no_cure(sound: Home, inside: Inside) -> None:
    for name in ("one", "two"):
        put(
            sound,
            document(time.time(), name=name, provider="claude-max", kind="setup-token", credential={"token": OAT}),
            name,
        )
    (sound.accounts / "work.json").unlink()
    sound.default_provider.write_text("claude-max\n")
    sound.default_provider.chmod(0o600)
    assert inside("key", "create", "guest").code == 0
    found = [one for one in inside("doctor", "--json").json if one["where"] == "a model that nothing maps"]
    assert [one["cure"] for one in found] == ["tokenferry explain route, which gives the reason for each account"]
    assert "one: policy" in found[0]["what"]
    assert "two: policy" in found[0]["what"]


def test_a_home_without_accounts_is_a_finding_once_a_client_has_a_key(sound: Home, inside: Inside) -> None:
    told = "a model that nothing maps: no account serves it, and a client gets 503"
    assert inside("account", "remove", "work", "--yes", "--keep-remote").code == 0
    before = inside("doctor")
    assert told not in before.out + before.err
    assert inside("key", "create", "guest").code == 0
    assert told in inside("doctor").out


def test_names_that_nothing_has_are_findings_and_faults_of_the_configuration(sound: Home, inside: Inside) -> None:
    with sound.config.open("a") as file:
        file.write('[router]\naccount = "typo"\n[accounts.nosuch]\nmax_concurrency = 1\n')
    found = inside("doctor", "--json").json
    assert {"router.account", "accounts.nosuch"} <= {one["where"] for one in found}
    refused = inside("config", "check")
    assert refused.code == 3
    assert "router.account names account 'typo', which does not exist" in refused.err


def test_a_host_that_serve_refuses_is_a_fault(home: Home, inside: Inside) -> None:
    home.config.write_text('[server]\nhost = "0.0.0.0"\n')
    home.config.chmod(0o600)
    refused = inside("config", "check")
    assert refused.code == 3
    assert "0.0.0.0" in refused.one_line()
