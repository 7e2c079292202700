"""`tokenferry refresh --watch` as a process: what it renews, what it says, and how it ends."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.harness import PATIENCE, Outcome, Running, begin, eventually, tokenferry
from tokenferry.background_refresh import renewer_of
from tokenferry.broker import Broker
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Login = Callable[..., dict[str, Any]]
Inside = Callable[..., Outcome]


@dataclass(frozen=True)
class Published:
    """An account that is published, with a token that is about to expire."""

    sandbox: Sandbox
    home: Home
    folder: Path
    issued: dict[str, Any]

    @property
    def token(self) -> str:
        """What the programs find."""
        token: str = json.loads((self.folder / "credentials" / "work.json").read_text())["access_token"]
        return token

    @property
    def refreshes(self) -> int:
        return int(self.sandbox.counters()["accounts"]["alice"]["refreshes"])


@pytest.fixture
def published(sandbox: Sandbox, home: Home, login: Login, folder: Path) -> Published:
    return publish_short_lived(sandbox, home, login, folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profiles"
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(path))
    return path


class Keeping:
    """The running command, and every line it writes."""

    def __init__(self, process: Running) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines))
            for stream, lines in ((process.stdout, self.out), (process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            lines += (line.rstrip("\n") for line in iter(stream.readline, ""))

    def says(self, text: str) -> None:
        eventually(lambda: any(text in line for line in [*self.out, *self.err]))

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code


@contextlib.contextmanager
def keeping(*arguments: str) -> Iterator[Keeping]:
    renewer = Keeping(begin("refresh", "--watch", *arguments))
    try:
        yield renewer
    finally:
        renewer.process.kill()
        renewer.end()


def publish_short_lived(sandbox: Sandbox, home: Home, login: Login, folder: Path) -> Published:
    issued = login()
    assert tokenferry("profile", "publish", "work").code == 0
    path = home.accounts / "work.json"
    fields = json.loads(path.read_text())
    fields["credential"]["expires_at"] -= 28_800 - 300
    path.write_text(json.dumps(fields))
    broker = Broker.from_home(home)
    broker.republish()
    broker.drain(PATIENCE)
    return Published(sandbox, home, folder, issued)


def test_a_published_account_is_renewed_unasked(published: Published) -> None:
    issued = published.issued
    with keeping() as renewer:
        renewer.says("account work: has a new token, which expires in 8 h")
        assert published.token != issued["access_token"]
        renewer.tell(signal.SIGTERM)
        assert renewer.end() == 0
    assert renewer.err == []
    assert published.refreshes == 1
    assert not any(issued[key] in line for key in ("access_token", "refresh_token") for line in renewer.out)


def test_what_others_do_while_it_runs_counts(sandbox: Sandbox, home: Home, login: Login, folder: Path) -> None:
    with keeping("--json") as renewer:
        renewer.says("nothing in")
        publish_short_lived(sandbox, home, login, folder)
        renewer.says('"kind": "refreshed"')
        events = [json.loads(line) for line in renewer.out]
        [renewed] = [event for event in events if event["kind"] == "refreshed"]
        assert renewed["account"] == "work"
        assert isinstance(renewed["expires_at"], int)
        renewer.tell(signal.SIGHUP)
        assert renewer.end() == 0


def test_a_configuration_that_is_changed_while_it_runs_counts(
    published: Published, sandbox: Sandbox, home: Home
) -> None:
    configure(home, "http://127.0.0.1:1")
    with keeping() as renewer:
        renewer.says("could not be reached")
        home.config.write_text("[[providers]\n")
        renewer.says("the changed configuration is not used")
        configure(home, sandbox.url)
        renewer.says("has a new token")
        renewer.tell(signal.SIGINT)
        assert renewer.end() == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_refresh_in_flight_is_waited_for(
    published: Published, sandbox: Sandbox, number: signal.Signals, code: int
) -> None:
    sandbox.fault("hang", path="/v1/oauth/token", after_work=True)
    with keeping() as renewer:
        eventually(lambda: sandbox.counters()["in_flight"])
        renewer.tell(number)
        renewer.says("finishing the refresh in flight")
        renewer.tell(number)  # the second one changes nothing
        sandbox.clear()
        assert renewer.end() == code
    assert renewer.err == ["tokenferry: finishing the refresh in flight…"]
    assert tokenferry("token", "work").out.strip() == published.token
    assert published.refreshes == 1
    assert sandbox.counters()["totals"]["reuses"] == 0


def test_of_two_one_keeps_and_the_other_takes_over_when_it_dies(home: Home, sandbox: Sandbox) -> None:
    with keeping() as first:
        first.says("nothing in")
        with keeping() as second:
            second.says(f"process {first.process.pid} (tokenferry) refreshes the logins here; waiting")
            once = tokenferry("refresh", "--due")
            assert once.code == 0
            assert f"process {first.process.pid} (tokenferry) refreshes the logins here" in once.one_line()
            first.process.kill()
            second.says("nothing in")
            assert str(second.process.pid) in str(renewer_of(home))


def test_a_dead_login_is_said_once(published: Published, sandbox: Sandbox, home: Home) -> None:
    sandbox.revoke("alice", "family")
    with keeping() as renewer:
        renewer.says("tokenferry login work")
        asked = sandbox.counters()["paths"]["/v1/oauth/token"]
        (home.accounts / "other.json").write_text("{")  # a look more
        (home.accounts / "other.json").chmod(0o600)
        renewer.says("other.json")
        assert sandbox.counters()["paths"]["/v1/oauth/token"] == asked == 1
        renewer.tell(signal.SIGTERM)
        assert renewer.end() == 0
    assert len([line for line in renewer.err if "tokenferry login work" in line]) == 1


# -- due


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--due", "--watch"), "give one of them"),
        (("work", "--due"), "leave 'work' out"),
        (("work", "--switch-claude-code"), "tokenferry claude-code switch --next"),
    ],
)
def test_a_refresh_that_makes_no_sense_is_refused(inside: Inside, arguments: tuple[str, ...], words: str) -> None:
    outcome = inside("refresh", *arguments)
    assert outcome.code == 2
    assert words in outcome.one_line()


def test_once_does_what_is_due_and_ends(published: Published, inside: Inside) -> None:
    outcome = inside("refresh", "--due", "--json")
    assert outcome.code == 0
    assert [(event["kind"], event["account"]) for event in outcome.json] == [("refreshed", "work")]
    assert inside("refresh", "--due").out == ""
    assert published.refreshes == 1


def test_once_tells_by_its_exit_code_what_went_wrong(published: Published, sandbox: Sandbox, inside: Inside) -> None:
    sandbox.fault("status", path="/v1/oauth/token", status=503)
    outcome = inside("refresh", "--due", "--json")
    assert (outcome.code, [event["kind"] for event in outcome.json]) == (6, ["failed"])
    sandbox.clear()
    sandbox.revoke("alice", "family")
    eventually(lambda: inside("refresh", "--due").code == 5)  # once the back-off has ended


# -- doctor


def unkept(inside: Inside) -> list[dict[str, str]]:
    return [one for one in inside("doctor", "--json").json if "no renewer runs" in one["what"]]


def test_doctor_says_when_no_renewer_keeps_what_is_published(
    sandbox: Sandbox, home: Home, login: Login, folder: Path, inside: Inside
) -> None:
    login()
    assert unkept(inside) == []
    inside("profile", "publish", "work")
    [finding] = unkept(inside)
    assert (finding["where"], finding["cure"]) == ("account work", "tokenferry service install")
    with keeping() as renewer:
        renewer.says("keeping 1 login")
        assert unkept(inside) == []
    assert unkept(inside) != []
    inside("refresh", "--due")
    assert unkept(inside) == []


def test_doctor_says_when_an_idle_login_is_about_to_lapse(
    sandbox: Sandbox, home: Home, login: Login, inside: Inside
) -> None:
    login(expires_in=-25 * 86_400)
    [finding] = unkept(inside)
    assert finding["where"] == "account work"
    assert "will lapse" in finding["what"]


# -- serve


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_keeps_as_well_with_one_keeper_however_many_workers(
    published: Published, home: Home, tmp_path: Path, workers: str
) -> None:
    file = tmp_path / "port"
    server = Keeping(begin("serve", "--port", "0", "--port-file", str(file), "--workers", workers))
    try:
        server.says("account work: has a new token")
        eventually(lambda: renewer_of(home))
        if workers == "2":
            holder = int(str(renewer_of(home)).split()[1])
            assert holder != server.process.pid
            os.kill(holder, signal.SIGKILL)
            eventually(lambda: sum("keeping 1 login" in line for line in list(server.err)) == 2)
            assert str(holder) not in str(renewer_of(home))
        server.tell(signal.SIGTERM)
        assert server.end() == 0
    finally:
        server.process.kill()
        server.end()
    assert sum("keeping 1 login" in line for line in server.err) == int(workers)
    assert published.refreshes == 1
    assert renewer_of(home) is None


def test_a_keeper_takes_over_from_a_gateway_that_ends(
    sandbox: Sandbox, home: Home, login: Login, folder: Path, tmp_path: Path
) -> None:
    login()
    assert tokenferry("profile", "publish", "work").code == 0
    server = Keeping(begin("serve", "--port", "0", "--port-file", str(tmp_path / "port")))
    try:
        eventually(lambda: renewer_of(home))
        with keeping() as renewer:
            renewer.says(f"process {server.process.pid} (tokenferry) refreshes the logins here")
            server.tell(signal.SIGTERM)
            assert server.end() == 0
            renewer.says("keeping 1 login")
    finally:
        server.process.kill()
        server.end()
