import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pool import runs as j
from tokenferry.errors import StorageFailed, UnknownAccount
from tokenferry.pool import Criteria
from tokenferry.pool._cooldown_sync import CooldownSync
from tokenferry.settings import PoolSettings
from tokenferry.state import Cooldown, Scope, State

Start = Callable[..., CooldownSync]
SESSION = Criteria("s")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    with State(path, now=lambda: j.NOW) as state:
        yield state


def recorder(rig: j.Rig, state: State, **about: object) -> CooldownSync:
    options = {"fingerprint": lambda name: "0a1b2c3d", "accounts": lambda: None, "now": lambda: rig.clock.wall}
    return CooldownSync(rig.pool, state, **(options | about))  # type: ignore[arg-type]


def test_what_a_pool_finds_out_counts_in_every_other_process_and_after_a_restart(path: Path, state: State) -> None:
    first, second = j.Rig(), j.Rig()
    with State(path, now=lambda: j.NOW) as other:
        mine, theirs = recorder(first, state), recorder(second, other)
        mine._round()
        theirs._round()
        assert first.serve(SESSION, j.limited()) == ["a", "b"]
        assert second.serve() == ["a"]
        mine._round()
        theirs._round()
        assert second.serve() == ["b"]
    third = j.Rig()
    recorder(third, state)._round()
    assert third.serve() == ["b"]


def test_what_a_person_clears_counts_at_once(state: State) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    renewer._round()
    rig.serve(SESSION, j.limited())
    renewer._round()
    assert rig.serve() == ["b"]
    assert state.cooldowns.clear(Scope("account", "a")) == 1
    renewer._round()
    assert rig.serve() == ["a"]


def test_what_is_not_written_yet_is_not_forgotten_when_others_write(state: State) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    renewer._round()
    state.cooldowns.put(Cooldown(Scope("account", "c"), "window", "answer", int(j.NOW) + 900))
    rig.serve(SESSION, j.limited())
    rig.pool.cooldowns.adopt(state.cooldowns.list(), {}, renewer._written)
    assert rig.serve() == ["b"]
    rig.serve(Criteria(), j.limited())
    assert j.refusal(rig.run().next()).cause == "exhausted"


def test_which_organization_answers_named_is_kept(path: Path, state: State) -> None:
    first, second = j.Rig(), j.Rig()
    renewer = recorder(first, state)
    renewer._round()
    first.serve(Criteria(), j.busy(2, "org"), j.busy(2, "org"))
    renewer._round()
    assert state.organizations.all() == {"a": "org", "b": "org"}
    recorder(second, state)._round()
    # The limit of one is the limit of both.
    assert second.serve(Criteria(), j.OK) == ["c"]
    second.clock.pass_by(3)
    assert second.serve(Criteria(), j.busy(900)) == ["a", "c"]


def test_a_credential_that_was_refused_is_forgiven_when_the_account_has_another(state: State) -> None:
    rig = j.Rig()
    fingerprints, accounts = {"a": "0a1b2c3d"}, [object()]
    renewer = recorder(rig, state, fingerprint=fingerprints.__getitem__, accounts=lambda: accounts[-1])
    renewer._round()
    run = rig.run()
    run.next()
    run.fingerprint = "0a1b2c3d"
    j.reply(run, j.REFUSED)
    run.close()
    for _ in range(2):
        accounts.append(object())
        renewer._round()
        assert rig.serve() == ["b"]
    fingerprints["a"] = "ffffffff"
    accounts.append(object())
    renewer._round()
    assert rig.serve() == ["a"]


def test_a_late_refusal_of_a_replaced_credential_is_over_in_the_next_round(state: State) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    renewer._round()
    state.cooldowns.put(Cooldown(Scope("account", "a"), "refused", "answer", None, "refused: ffffffff"))
    renewer._round()
    assert not state.cooldowns.list()
    assert rig.serve() == ["a"]


def test_a_round_without_news_changes_nothing_in_the_pool(state: State) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    rig.serve(SESSION, j.limited())
    renewer._round()
    rig.pool.cooldowns.refresh()
    renewer._round()
    assert rig.pool.cooldowns.incoming is None


def test_an_unreadable_account_is_left_unchanged(state: State) -> None:
    def unknown(name: str) -> str:
        raise UnknownAccount(name)

    rig = j.Rig()
    state.cooldowns.put(Cooldown(Scope("account", "a"), "refused", "answer", None, "refused: 0a1b2c3d"))
    recorder(rig, state, fingerprint=unknown)._round()
    assert len(state.cooldowns.list()) == 1


def test_a_full_disk_is_reported_once_and_tried_again(
    state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    renewer.guarded(renewer._round)

    def full(*_: object, **__: object) -> Cooldown:
        raise StorageFailed("the disk is full")

    rig.serve(SESSION, j.limited())
    with monkeypatch.context() as context:
        context.setattr(state.cooldowns, "put", full)
        renewer.guarded(renewer._round)
        renewer.guarded(renewer._round)
    assert caplog.text.count("the disk is full") == 1
    assert rig.serve() == ["b"]
    renewer.guarded(renewer._round)
    assert [one.scope.name for one in state.cooldowns.list()] == ["a"]


def test_what_was_over_long_ago_is_forgotten(state: State) -> None:
    for name, ago in (("old", 8 * 86_400), ("new", 6 * 86_400)):
        state.cooldowns.put(Cooldown(Scope("account", name), "window", "answer", int(j.NOW) - ago))
    recorder(j.Rig(), state)._round()
    assert [one.scope.name for one in state.cooldowns.list()] == ["new"]


def test_and_again_each_hour(state: State) -> None:
    rig = j.Rig()
    renewer = recorder(rig, state)
    renewer._round()
    state.cooldowns.put(Cooldown(Scope("account", "old"), "window", "answer", int(j.NOW) - 8 * 86_400))
    rig.clock.pass_by(3500)
    renewer._round()
    assert state.cooldowns.list()
    rig.clock.pass_by(101)
    renewer._round()
    assert not state.cooldowns.list()


def test_it_works_on_a_thread_and_writes_what_is_left_at_its_end(state: State) -> None:
    rig, looked = j.Rig(), threading.Event()
    with recorder(rig, state, look=lambda _: looked.set(), interval=0.01):
        assert looked.wait(30)
        rig.serve(SESSION, j.limited())
    assert [one.scope.name for one in state.cooldowns.list()] == ["a"]


def used(utilization: float, reset: float = 9000.0) -> j.Reply:
    name = j.UNIFIED + b"5h"
    headers = (
        (j.UNIFIED + b"status", b"allowed"),
        (name + b"-status", b"allowed"),
        (name + b"-utilization", str(utilization).encode()),
        (name + b"-reset", b"%d" % (j.NOW + reset)),
    )
    return j.Reply(200, headers, b"{}")


def test_every_process_uses_the_windows_that_one_learned(path: Path, state: State) -> None:
    settings = PoolSettings(strategy="least-utilised")
    first, second = j.Rig(("a", "b"), settings), j.Rig(("a", "b"), settings)
    with State(path, now=lambda: j.NOW) as other:
        mine, theirs = recorder(first, state), recorder(second, other)
        assert first.serve(j.ANY, used(0.5)) == ["a"]
        mine._round()
        theirs._round()
        assert second.pool.usage.state("a") == first.pool.usage.state("a") is not None
        second.clock.pass_by(2)
        assert second.serve(j.ANY, used(0.7)) == ["b"]
        for one in (theirs, mine, theirs):
            one._round()
        first.clock.pass_by(2)
        assert first.serve() == ["a"]
        known = state.limits.all()
        assert {name: one.windows[0].utilization for name, one in known.items()} == {"a": 0.5, "b": 0.7}


def test_only_what_moves_by_two_per_cent_is_written(state: State) -> None:
    rig = j.Rig(("a",))
    mine = recorder(rig, state)
    written = []
    for utilization, reset in ((0.5, 9000), (0.51, 9000), (0.515, 9030), (0.52, 9000), (0.52, 9100), (0.1, 27_000)):
        rig.clock.pass_by(2)
        rig.serve(j.ANY, used(utilization, reset))
        before = state.limits.all()
        mine._round()
        written.append(state.limits.all() is not before)
    assert written == [True, False, False, True, True, True]
