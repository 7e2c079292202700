"""`tokenferry token` from the manifest: it answers as the full path would, or leaves it to the full path."""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.documents import ACCESS, KEY, OAT, document, put, settle
from cli.harness import tokenferry
from cli.recalls import CONFIGURATIONS, full, known, learn, write
from tokenferry import manifest
from tokenferry.broker import Broker
from tokenferry.cli.token import _will_be_handed_out_again
from tokenferry.credentials import ApiKey, Credential
from tokenferry.errors import StorageFailed
from tokenferry.manifest import recall
from tokenferry.policy_statement import state
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import Cooldown, GatewayRegistration, Scope, State, local_key

Change = Callable[[Home, dict[str, Any]], object]

KEPT: dict[str, Change] = {
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
    "another owner's login": lambda home, data: data.update(owner="claude-code"),
    "one of another machine": lambda home, data: data.update(machine="another"),
    "one of several in use": lambda home, data: (put(home, document(0, name="other"), "other"), use(home, "work")),
    "a key with an age limit": lambda home, data: data.update(
        provider="anthropic", kind="api-key", credential={"key": KEY}, created_at=int(time.time()), max_age=86_400
    ),
    "a config.toml that others may read": lambda home, data: write(home.config, "[server]\nport = 1\n", 0o644),
    "a linked config.toml": lambda home, data: home.config.symlink_to(
        write(home.path.parent / "dotfile.toml", CONFIGURATIONS["pool"])
    ),
}
NOT_KEPT: dict[str, Change] = {
    "an expired token": lambda home, data: data["credential"].update(expires_at=int(time.time()) - 60),
    "one that soon expires": lambda home, data: data["credential"].update(expires_at=int(time.time()) + 290),
    "a login of unknown expiry": lambda home, data: data["credential"].pop("expires_at"),
    "a setup token": lambda home, data: data.update(
        provider="claude-max", kind="setup-token", credential={"token": OAT}
    ),
    "a subscription's Console login": lambda home, data: (
        data.update(provider="console"),
        data["credential"].update(access_token=OAT, subscription_type="max"),
    ),
    "the subscription's provider": lambda home, data: data.update(provider="claude-max"),
    "a document of another account": lambda home, data: data.update(name="other"),
    "a config.toml with a mistake": lambda home, data: write(home.config, "[policies]\n"),
    "a second account and none chosen": lambda home, data: put(home, b"{}", "other"),
    "a token that a form would quote": lambda home, data: data["credential"].update(access_token='fake-"x'),
}


def link_config(home: Home) -> Path:
    """Put config.toml behind a link, on a way with a link in it; gives that one."""
    folder = home.path.parent / "dotfiles"
    folder.mkdir(0o700)
    write(folder / "config.toml", CONFIGURATIONS["pool"])
    link = home.path.parent / "link"
    link.symlink_to(folder)
    home.config.symlink_to(link / "config.toml")
    return link


def use(home: Home, name: str) -> Path:
    return write(home.active, f"{name}\n")


@pytest.mark.parametrize("form", [(), ("--env",), ("--json",), ("work", "--min-ttl=700"), ("--account", "work")])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_form_is_known_in_every_configuration(home: Home, configuration: str, form: tuple[str, ...]) -> None:
    put(home, document(time.time()))
    if configuration != "none":
        write(home.config, CONFIGURATIONS[configuration])
    assert ACCESS in learn(*form)[1]


@pytest.mark.parametrize("what", KEPT)
def test_what_the_account_alone_decides_is_known_the_next_time(home: Home, what: str) -> None:
    data = document(time.time())
    KEPT[what](home, data)
    put(home, data)
    learn()
    assert tokenferry("token").out == f"{(known() or (0, '', ''))[1]}"


@pytest.mark.parametrize("what", NOT_KEPT)
def test_what_a_renewal_a_subscription_or_a_fault_decides_is_not_kept(home: Home, what: str) -> None:
    write(home.config, CONFIGURATIONS["policy"])
    data = document(time.time())
    NOT_KEPT[what](home, data)
    put(home, data)
    settle()
    full("--json")
    assert known("--json") is None


def test_a_key_in_a_variable_or_a_file_is_known_until_that_changes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, document(time.time()))
    write(
        home.config,
        '[[providers]]\nname = "anthropic"\napi_key = "$A_VARIABLE"\n'
        '[[providers]]\nname = "z.ai"\nprovider_type = "z.ai"\napi_key = "key-file"\n',
    )
    file = write(home.path / "key-file", "zai-key\n")
    monkeypatch.setenv("A_VARIABLE", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"{KEY}-2")
    assert learn("anthropic")[1] == f"{KEY}\n"
    assert learn("z.ai", "--env")[1].endswith("=zai-key\n")
    assert learn("ANTHROPIC_API_KEY")[1] == f"{KEY}-2\n"
    monkeypatch.setenv("A_VARIABLE", f"{KEY}3")
    assert learn("anthropic")[1] == f"{KEY}3\n"
    write(file, "zai-key-2\n")
    assert learn("z.ai", "--env")[1].endswith("=zai-key-2\n")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert known("ANTHROPIC_API_KEY") is None


def test_a_profile_of_the_official_sdks_is_known_until_it_or_a_link_to_it_changes(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "sdk"
    (folder / "configs").mkdir(0o700, parents=True)
    (folder / "credentials").mkdir(0o700)
    config = {"version": "1.0", "authentication": {"type": "user_oauth"}}
    write(folder / "configs" / "work.json", json.dumps(config))
    token = {"version": "1.0", "access_token": "fake-profile", "expires_at": int(time.time()) + 9000}
    credentials = write(folder / "credentials" / "work.json", json.dumps(token))
    labels = {"profile": "work", "config_dir": str(folder)}
    put(home, b"{}", "other").unlink()
    home.attached.mkdir(0o700)
    data = document(0, labels=labels, provider="console", owner="external", store="anthropic-profile")
    write(home.attached / "work.json", json.dumps(data))
    assert learn()[1] == "fake-profile\n"
    write(credentials, json.dumps(token | {"access_token": "fake-other--"}))
    assert learn()[1] == "fake-other--\n"
    linked = folder / "configs" / "work.json"
    for name in ("one", "two"):
        write(folder / name, json.dumps(config))
    linked.unlink()
    linked.symlink_to(folder / "one")
    learn()
    linked.unlink()
    linked.symlink_to(folder / "two")
    assert known() is None


def test_a_file_that_the_configuration_only_names_is_known_to_be_there(home: Home) -> None:
    put(home, document(time.time()))
    file = write(home.path / "ca.pem", "")
    write(home.config, '[upstream]\nca_file = "ca.pem"\n')
    learn()
    file.unlink()
    assert "has faults that don't concern account work" in learn()[2]


def test_a_link_on_the_way_to_the_configuration_that_names_another_folder_is_looked_at_again(home: Home) -> None:
    put(home, document(time.time()))
    link = link_config(home)
    learn()
    open_to_all = home.path.parent / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "dotfiles").symlink_to(link.readlink())
    link.unlink()
    link.symlink_to(open_to_all / "dotfiles")
    assert known() is None
    assert full()[0] == 8


def test_a_second_account_or_another_version_takes_the_full_path(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, document(time.time()))
    module = write(home.path.parent / "manifest.py", "")
    monkeypatch.setattr(manifest, "__file__", str(module))
    learn()
    write(module, "\n")
    learn()
    put(home, document(time.time(), name="other"), "other")
    assert known() is None


def test_what_another_installation_answered_is_not_repeated(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions may share a home: one of a virtual environment, one of the system."""
    put(home, document(time.time()))
    learn()
    monkeypatch.setattr(manifest, "__file__", str(write(home.path.parent / "manifest.py", "")))
    learn()


def test_logins_in_claude_codes_store_are_not_cached(home: Home, tmp_path: Path) -> None:
    put(home, b"{}", "other").unlink()
    home.attached.mkdir(0o700)
    (tmp_path / "claude").mkdir(0o700)
    tokens = {"accessToken": ACCESS, "refreshToken": "fake-r", "expiresAt": (int(time.time()) + 9000) * 1000}
    login = {"claudeAiOauth": {**tokens, "scopes": []}}
    write(tmp_path / "claude" / ".credentials.json", json.dumps(login))
    labels = {"config_dir": str(tmp_path / "claude")}
    write(home.attached / "work.json", json.dumps(document(0, labels=labels, owner="claude-code", store="claude-code")))
    settle()
    assert full()[:2] == (0, f"{ACCESS}\n")
    assert known() is None


def test_a_file_system_whose_clock_ticks_once_a_second_is_given_two(home: Home) -> None:
    path = put(home, document(time.time()))
    settle()
    stamp = manifest._stamp
    second = time.time_ns() // 1_000_000_000
    for ago, is_kept in ((0, False), (3, True)):
        changed = (second - ago) * 1_000_000_000

        def coarse(kind: Any, name: str, changed: int = changed) -> Any:
            found = stamp(kind, name)
            return [*found[:-1], changed] if name == str(path) and found else found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(manifest, "_stamp", coarse)
            full()
            assert (known() is not None) is is_kept


def test_the_gateways_key_is_known_while_that_gateway_holds_its_lock(home: Home) -> None:
    key = local_key(home)
    registration = GatewayRegistration(home, url="http://127.0.0.1:13456")
    assert learn("--gateway")[1] == f"{key.reveal()}\n"
    assert "http://127.0.0.1:13456" in learn("--gateway", "--env")[1]
    record = registration.path.read_bytes()
    registration.forget()  # as if it was killed: its record is left
    assert registration.path.read_bytes() == record
    assert known("--gateway") is None
    assert full("--gateway")[0] == 6


def test_a_variable_that_picks_the_account_is_named_as_on_the_full_path(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, document(time.time()))
    put(home, document(time.time(), name="other"), "other")
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "work")
    assert learn()[2] == "tokenferry: TOKENFERRY_ACCOUNT selects account work\n"
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "other")
    learn()
    monkeypatch.setenv("TOKENFERRY_ACCOUNT", "work")
    assert known() is not None, "each environment has its own answer"


def test_a_stand_in_for_a_limited_account_is_never_kept(home: Home) -> None:
    for name in ("work", "other"):
        put(
            home,
            document(time.time(), name=name, credential={"access_token": f"fake-{name}", "expires_at": 4 * 10**9}),
            name,
        )
    use(home, "work")
    assert learn()[1] == "fake-work\n"
    with State(home.state) as opened:
        now = int(time.time())
        opened.cooldowns.put(Cooldown(Scope("account", "work"), "rate", "test", until=now + 1000))
        settle()
        assert full()[1] == "fake-other\n"
        assert known() is None
        opened.cooldowns.put(Cooldown(Scope("account", "other"), "rate", "test", until=now + 500))
        assert learn()[1] == "fake-work\n"
        assert recall((), now + 499) is not None
        assert recall((), now + 500) is None, "then the other one may stand in"


def test_an_answer_without_a_look_at_the_cooldowns_is_not_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("work", "other"):
        put(home, document(time.time(), name=name), name)
    use(home, "work")
    with State(home.state) as opened:
        opened.cooldowns.put(Cooldown(Scope("account", "work"), "rate", "test", until=int(time.time()) + 1000))
    settle()

    def refuse(*_: object, **__: object) -> None:
        raise StorageFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(State, "__init__", refuse)
        assert full() == (0, f"{ACCESS}\n", "")
    assert known() is None
    assert "account other stands in for work" in full()[2]


def test_a_state_that_is_no_file_is_not_waited_for(home: Home) -> None:
    for name in ("work", "other"):
        put(home, document(time.time(), name=name), name)
    use(home, "work")
    os.mkfifo(home.state, 0o600)
    settle()
    assert full() == (0, f"{ACCESS}\n", "")
    assert known() is None


def test_an_answer_holds_neither_before_it_was_given_nor_when_the_token_is_due(home: Home) -> None:
    put(home, document(time.time()))
    now = time.time()
    learn("--min-ttl", "3600")
    assert recall(("--min-ttl", "3600"), now + 3590) is not None
    assert recall(("--min-ttl", "3600"), now + 3601) is None
    assert recall(("--min-ttl", "3600"), now - 1) is None


def test_an_answer_beside_which_something_was_logged_is_not_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, document(time.time()))
    resolve = Broker.resolve

    def resolve_with_a_warning(self: Broker, *arguments: Any, **options: Any) -> Credential:
        logging.getLogger("tokenferry.test").warning("look at this")
        return resolve(self, *arguments, **options)

    settle()
    with monkeypatch.context() as patch:
        patch.setattr(Broker, "resolve", resolve_with_a_warning)
        assert full()[0] == 0
    assert known() is None
    learn()


@pytest.mark.parametrize("what", ["of another account", "beside a profile that was restored"])
def test_a_credential_that_its_document_alone_does_not_decide_is_not_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    put(home, document(time.time()))
    broker = Broker.from_home(home)
    found = broker.book.read("work")
    assert _will_be_handed_out_again(broker, found, found.credential)
    if what == "of another account":
        assert not _will_be_handed_out_again(broker, found, ApiKey(Secret("sk-ant-api03-of-another-account")))
    else:
        monkeypatch.setattr(type(broker.publisher), "has_healed", True)
        assert not _will_be_handed_out_again(broker, found, found.credential)


def test_what_a_killed_writer_left_is_removed_by_the_next_one(home: Home) -> None:
    put(home, document(time.time()))
    old, young = home.path / f"{manifest.NAME}.0a1b2c3d", home.path / f"{manifest.NAME}.4e5f6a7b"
    for leftover, age in ((old, 61), (young, 5)):
        write(leftover, "half a line")
        os.utime(leftover, (time.time() - age,) * 2)
    learn()
    assert not old.exists()
    assert young.exists(), "it may still be written"


def test_an_answer_with_a_path_that_depends_on_the_folder_is_not_kept(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, document(time.time()))
    write(tmp_path / "other.toml", CONFIGURATIONS["pool"])
    monkeypatch.chdir(tmp_path)
    settle()
    assert full("--config", "other.toml")[0] == 0
    assert known("--config", "other.toml") is None
    assert full("--home", "home")[0] == 0
    assert known("--home", "home") is None
    monkeypatch.setenv("TOKENFERRY_CONFIG", "other.toml")
    assert full()[0] == 0
    assert known() is None


@pytest.mark.parametrize("how", ["owner", "mode", "link", "fifo", "folder", "empty", "cut", "noise"])
def test_a_manifest_that_is_not_ours_alone_or_not_whole_is_not_believed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    put(home, document(time.time()))
    learn()
    path = home.path / manifest.NAME
    raw = path.read_bytes()
    if how == "owner":
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    elif how == "mode":
        path.chmod(0o640)
    elif how == "folder":
        home.path.chmod(0o770)
    elif how in {"link", "fifo"}:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if how == "link" else os.mkfifo(path, 0o600)
    else:
        path.write_bytes({"empty": b"", "cut": raw[:-3], "noise": b"\xff" + raw[1:]}[how])
    assert known() is None


@pytest.mark.parametrize("how", ["mode", "content"])
def test_a_change_shows_where_size_and_modification_time_are_the_old_ones(home: Home, how: str) -> None:
    path = put(home, document(time.time()))
    learn()
    status = path.stat()
    if how == "mode":
        path.chmod(0o644)
    else:
        path.write_bytes(path.read_bytes().replace(ACCESS.encode(), ACCESS.upper().encode()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert known() is None


@pytest.mark.parametrize("what", ["name", "id"])
def test_an_answer_of_another_machine_is_not_repeated(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The copy of a disk has every file with its inode and times, but another machine's name or id."""
    put(home, document(time.time()))
    machine = write(tmp_path / "machine-id", "one\n")
    monkeypatch.setattr(manifest, "_MACHINE", (str(machine),))
    learn()
    if what == "id":
        write(machine, "two\n")
    else:
        other = os.uname_result(["Linux", "another", *os.uname()[2:]])
        monkeypatch.setattr(os, "uname", lambda: other)
    assert known() is None


def test_a_forged_line_gives_nothing_that_its_author_does_not_know(home: Home) -> None:
    """Another account's credential, another text around it, a longer time: each needs the secret's own tag."""
    put(home, document(time.time()))
    other = put(home, document(time.time(), name="other", credential={"access_token": "fake-" + "o" * 47}), "other")
    learn("work")
    path = home.path / manifest.NAME
    selector, tag, text = path.read_bytes().split(b" ", 2)
    entry = json.loads(text)
    forged = [
        entry | {"place": ["file", str(other), *entry["place"][2:]]},
        entry | {"stdout": "ANTHROPIC_BASE_URL=https://evil.example\n\0\n"},
        entry | {"until": entry["until"] + 1},
        entry | {"depends": [], "stamps": manifest._digest([])},
    ]
    for one in forged:
        path.write_bytes(b" ".join([selector, tag, json.dumps(one).encode()]))
        assert known("work") is None
    path.write_bytes(b" ".join([selector, tag, text]))
    assert known("work") is not None


def test_the_manifest_holds_no_secret_and_is_private_and_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, document(time.time()))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    learn()
    path = home.path / manifest.NAME
    for seconds in range(60):
        full("--min-ttl", str(seconds))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().count(b"\n") < 32
    assert not {ACCESS.encode(), KEY.encode()} & set(path.read_bytes().split())
    assert ACCESS.encode() not in path.read_bytes()
    assert KEY.encode() not in path.read_bytes()
    assert [one.name for one in home.path.iterdir() if one.name.startswith(f"{manifest.NAME}.")] == []


def test_what_changed_within_the_last_tick_of_the_clock_is_not_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_TICK_NS", 3600 * 10**9)
    put(home, document(time.time()))
    assert full()[0] == 0
    assert known() is None


def test_a_home_that_can_not_be_written_gives_the_token_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, document(time.time()))
    settle()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    assert full() == (0, f"{ACCESS}\n", "")
    assert [one.name for one in home.path.iterdir() if one.name.startswith(manifest.NAME)] == []


def test_the_home_is_looked_for_where_the_settings_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({"TOKENFERRY_HOME": "/a"}, {"HOME": "/b"}, {"HOME": "/b", "XDG_DATA_HOME": "/c"}):
        for name in ("TOKENFERRY_HOME", "HOME", "XDG_DATA_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert manifest.data_home() == str(Home.from_environment().path)


class _Watched:
    """What this thread opens and lists, by an audit hook: it can't be taken out, so it is one for the whole run."""

    def __init__(self) -> None:
        self.seen: set[str] | None = None
        self.thread = 0
        sys.addaudithook(self)

    def looking(self, look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        """`os.stat` or `os.lstat`, of which no audit event tells."""

        def watched_look(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
            if self.seen is not None and self.thread == threading.get_ident() and not isinstance(path, int):
                self.seen.add(os.fspath(path))
            return look(path, *arguments, **options)

        return watched_look

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is not None and self.thread == threading.get_ident():
            if event in {"open", "os.listdir", "os.scandir"} and isinstance(arguments[0], str | os.PathLike):
                self.seen.add(os.fspath(arguments[0]))
            elif event == "sqlite3.connect":
                self.seen.add(str(arguments[0]))

    @contextlib.contextmanager
    def watching(self) -> Iterator[set[str]]:
        self.seen, self.thread = set(), threading.get_ident()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "stat", self.looking(os.stat))
            patched.setattr(os, "lstat", self.looking(os.lstat))
            try:
                yield self.seen
            finally:
                self.seen = None


class _Environment(dict[str, str]):
    """An environment that knows which variables were asked for."""

    def __init__(self) -> None:
        super().__init__(os.environ)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


watched = _Watched()


@pytest.mark.parametrize("what", ["plain", "used", "configured", "linked", "published", "gateway"])
def test_the_full_path_reads_nothing_that_its_answer_does_not_depend_on(
    home: Home, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    put(home, document(time.time()))
    if what == "used":
        put(home, document(time.time(), name="other"), "other")
        use(home, "work")
        State(home.state).close()
    elif what == "configured":
        write(
            home.config,
            CONFIGURATIONS["models"]
            + '[[providers]]\nname = "z.ai"\nprovider_type = "z.ai"\napi_key = "k"\n'
            + '[upstream]\nca_file = "k"\n[server]\ntls_cert = "k"\ntls_key = "k"\n',
        )
        write(home.path / "k", "zai-key")
        use(home, "work")
        state(home.statement, time.time())
    elif what == "linked":
        link_config(home)
    elif what == "published":
        assert tokenferry("profile", "publish", "work").code == 0
    registration = GatewayRegistration(home, url="http://127.0.0.1:1") if what == "gateway" else None
    arguments = ["--gateway"] if registration else []
    if registration:
        local_key(home)
    full(*arguments)  # which imports what it needs
    (home.path / manifest.NAME).unlink(missing_ok=True)
    settle()
    environment = _Environment()
    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", environment)
        with watched.watching() as seen:
            assert full(*arguments)[0] == 0
    entry = json.loads((home.path / manifest.NAME).read_bytes().split(b" ", 2)[2])
    depends = {name for _, name in entry["depends"]}
    # The interpreter's own files, what names this process, locks, and what the manifest's own check reads. Locks look
    # for links on the way to what they are about; whether SQLite's side files are private doesn't alter what they say.
    interpreter = (str(Path(manifest.__file__).parent), sys.prefix, sys.base_prefix, "/proc/")
    beside = (
        *interpreter,
        str(home.locks),
        "file:",
        f"{home.state}-",
        *manifest._MACHINE,
        str(home.path / manifest.NAME),
    )
    above = {*map(str, home.path.parents), *map(str, (Path.home() / ".config" / "anthropic" / "configs").parents)}
    assert {one for one in seen - depends - above if not one.startswith(beside)} == set()
    assert {
        one for one in environment.asked if one.startswith(("TOKENFERRY", "ANTHROPIC", "XDG", "HOME", "CLAUDE"))
    } <= (depends | {"TOKENFERRY_DEBUG"})
    if registration:
        registration.end()
