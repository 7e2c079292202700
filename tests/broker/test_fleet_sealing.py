"""Sealing accounts that several hosts share: ended at every step, every host reads every account all the time."""

import contextlib
import itertools
import shutil
from pathlib import Path

import pytest

from contracts import begun, document
from effort import STRIDE
from fleet.rig import TwoHosts
from fleet.sealing_host import Countdown, Killed, SealingHost
from tokenferry.credentials import OAuthToken
from tokenferry.errors import SealKeyLost, TryLater, UsageError
from tokenferry.fleet import CLEAR, Heartbeat, shared_key

NAMES = ("home", "work")


def open_host(hosts: TwoHosts, name: str, countdown: Countdown | None = None, *, unsealed: bool = False) -> SealingHost:
    """A process of that host over the virtual database."""
    clock = {"monotonic": lambda: hosts.time, "now": lambda: hosts.time}
    return SealingHost(hosts.folder, name, hosts.tables(), countdown=countdown, unsealed=unsealed, **clock)


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats come when the test says."""
    monkeypatch.setattr(Heartbeat, "start", lambda _: None)
    monkeypatch.setattr("tokenferry.accounts._sealing.refuse_temporary", lambda _: None)


def share_key(hosts: TwoHosts) -> None:
    """Copy the key's file from the first host to the second one, which says what it can open."""
    shutil.copy(hosts.folder / "h1.key", hosts.folder / "h2.key")
    open_host(hosts, "h2").store.heartbeat.beat()


def sealed_fleet(folder: Path) -> TwoHosts:
    """Two hosts with one key, two accounts, and an answer on the first one's disk."""
    hosts = TwoHosts(folder)
    open_host(hosts, "h1").enable()
    share_key(hosts)
    second = open_host(hosts, "h2")
    second.enable()
    for name in NAMES:
        second.store.swap(name, None, document(0, name))
    first, attempt, answer = open_host(hosts, "h1"), begun(), document(1).credential
    assert isinstance(answer, OAuthToken)
    first.store.read("work")
    first.spill.begin("work", attempt)
    first.spill.sending("work", attempt, hosts.time)
    first.spill.answer("work", attempt, answer)
    return hosts


def keys_of(hosts: TwoHosts) -> set[str | None]:
    store = open_host(hosts, "h1").store
    return {None if (header := store.header(name)) is None else header.key for name in NAMES}


def check_readable(hosts: TwoHosts, *, unsealed: bool = False) -> None:
    for name in ("h1", "h2"):
        host = open_host(hosts, name, unsealed=unsealed)
        assert host.store.read("home").credential == document(0, "home").credential
        assert host.store.read("work").credential in (document(0).credential, document(1).credential)
    (attempt,) = open_host(hosts, "h1", unsealed=unsealed).spill.attempts("work")
    assert attempt.answer == document(1).credential


def rotate(hosts: TwoHosts, countdown: Countdown | None = None) -> None:
    try:
        result = open_host(hosts, "h1", countdown).sealing.rotate()
    except TryLater:
        share_key(hosts)
        result = open_host(hosts, "h1", countdown).sealing.rotate()
    assert not result.faults


def test_a_rotation_ended_at_any_step_is_continued_and_every_host_reads_on(tmp_path: Path) -> None:
    for step in itertools.count(1, STRIDE):
        hosts = sealed_fleet(_made(tmp_path / str(step)))
        before = keys_of(hosts)
        try:
            rotate(hosts, Countdown(step))
        except Killed:
            hosts.time += 30
            check_readable(hosts)
            rotate(hosts)
        else:
            break
        check_readable(hosts)
        assert len(keys_of(hosts)) == 1
        assert keys_of(hosts) == {hosts.database.sealed_with}
        assert not keys_of(hosts) & before
        assert open_host(hosts, "h2").sealing.seal().changed == ()
        check_readable(hosts)
    assert step > 50


def test_a_key_that_a_live_host_lacks_seals_nothing(tmp_path: Path) -> None:
    hosts = sealed_fleet(tmp_path)
    before = keys_of(hosts)
    for _ in range(2):
        with pytest.raises(TryLater, match="nothing is sealed with the key") as caught:
            open_host(hosts, "h1").sealing.rotate()
        open_host(hosts, "h2").store.heartbeat.beat()
    assert "(h2) can't open; copy " in str(caught.value)
    assert str(hosts.folder / "h1.key") in str(caught.value)
    assert keys_of(hosts) == before == {hosts.database.sealed_with}
    assert len((hosts.folder / "h1.key").read_text().split()) == 2, "a second run makes no further key"
    lines = shared_key(hosts.tables()).lines()
    assert [line for line in lines[1:] if "(h2)" not in line] == []
    open_host(hosts, "h2").store.swap("more", None, document(2, "more"))
    assert open_host(hosts, "h1").store.read("more") == document(2, "more")
    share_key(hosts)
    rotate(hosts)
    assert not keys_of(hosts) & before
    assert len(shared_key(hosts.tables()).lines()) == 1


def test_a_host_without_the_key_says_so_and_loses_nothing(tmp_path: Path) -> None:
    """It was away while the others took another key."""
    hosts = sealed_fleet(tmp_path)
    hosts.database.hosts.pop("h2")
    rotate(hosts)
    away = open_host(hosts, "h2")
    rows = dict(hosts.database.contents.accounts)
    with pytest.raises(SealKeyLost, match="which this host can't open; copy that key's file"):
        away.store.read("work")
    with pytest.raises(SealKeyLost, match="copy its file from one of them"):
        away.enable()
    with pytest.raises(SealKeyLost):
        away.sealing.rotate()
    away.store.heartbeat.beat()
    assert [line for line in shared_key(hosts.tables()).lines() if "(h2) can't open" in line]
    assert hosts.database.contents.accounts == rows
    share_key(hosts)
    open_host(hosts, "h2").enable()
    check_readable(hosts)


def test_what_a_host_writes_after_a_rotation_is_sealed_with_the_new_key(tmp_path: Path) -> None:
    hosts = sealed_fleet(tmp_path)
    other = open_host(hosts, "h2").store
    before = other.read("home")
    rotate(hosts)
    other.swap("more", None, document(2, "more"))
    other.heartbeat.measure()
    other.swap("home", before.generation + 1, before)
    more = other.header("more")
    assert more is not None
    assert {more.key, *keys_of(hosts)} == {hosts.database.sealed_with}


def test_a_further_host_makes_no_key_of_its_own(tmp_path: Path) -> None:
    hosts = TwoHosts(tmp_path)
    open_host(hosts, "h1").enable()
    with pytest.raises(SealKeyLost):
        open_host(hosts, "h2").enable()
    assert not (tmp_path / "h2.key").exists()


def test_nothing_is_unsealed_where_that_is_refused(tmp_path: Path) -> None:
    hosts = sealed_fleet(tmp_path)
    before = keys_of(hosts)
    with pytest.raises(UsageError, match=r"store\.unsealed true"):
        open_host(hosts, "h1").sealing.unseal()
    with pytest.raises(TryLater, match=r"unsealed = true is missing on .*\(h2\)"):
        open_host(hosts, "h1", unsealed=True).sealing.unseal()
    assert keys_of(hosts) == before
    check_readable(hosts)


def test_unsealing_ended_at_any_step_is_continued(tmp_path: Path) -> None:
    for step in itertools.count(1, STRIDE):
        hosts = sealed_fleet(_made(tmp_path / str(step)))
        open_host(hosts, "h2", unsealed=True).store.heartbeat.beat()
        with contextlib.suppress(Killed):
            open_host(hosts, "h1", Countdown(step), unsealed=True).sealing.unseal()
            break
        hosts.time += 30
        check_readable(hosts, unsealed=True)
        assert not open_host(hosts, "h1", unsealed=True).sealing.unseal().faults
        assert not open_host(hosts, "h2", unsealed=True).sealing.unseal().faults
        assert (keys_of(hosts), hosts.database.sealed_with) == ({None}, CLEAR)
        check_readable(hosts, unsealed=True)
        open_host(hosts, "h2", unsealed=True).store.swap("more", None, document(2, "more"))
        for name in ("h1", "h2"):
            open_host(hosts, name, unsealed=True).enable()
        assert keys_of(hosts) == {hosts.database.sealed_with}
        check_readable(hosts)
    assert step > 50


def test_old_keys_are_not_forgotten_for_other_hosts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other hosts may need the old key"):
        open_host(sealed_fleet(tmp_path), "h1").sealing.check_forgettable()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
