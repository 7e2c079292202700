import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.state import Cooldown, Cooldowns, Scope, SqliteDatabase, State
from tokenferry.state._migrations import STATE_SCHEMA

NOW = 1_800_000_000
ALICE = Scope("account", "alice")
LIMITED = Cooldown(ALICE, "rate-limited", "answer", NOW + 60, "5h rejected")


@pytest.fixture
def cooldowns(path: Path) -> Iterator[Cooldowns]:
    with State(path, now=lambda: NOW) as state:
        yield state.cooldowns


def test_what_is_noted_is_there_with_the_time_of_noting(cooldowns: Cooldowns) -> None:
    assert cooldowns.list() == ()
    assert cooldowns.put(LIMITED) == replace(LIMITED, noted_at=NOW)
    assert cooldowns.list() == (replace(LIMITED, noted_at=NOW),)


@pytest.mark.parametrize(
    ("first", "second", "then"),
    [
        (NOW + 60, NOW + 90, NOW + 90),
        (NOW + 90, NOW + 60, NOW + 90),
        (None, NOW + 60, NOW + 60),
        (NOW + 60, None, NOW + 60),
        (NOW - 1, None, None),
        (NOW - 60, NOW - 1, NOW - 1),
        (None, None, None),
    ],
)
def test_of_two_ends_of_one_cause_the_later_counts_and_a_known_one_before_an_unknown(
    cooldowns: Cooldowns, first: int | None, second: int | None, then: int | None
) -> None:
    cooldowns.put(replace(LIMITED, until=first))
    assert cooldowns.put(replace(LIMITED, until=second)).until == then
    assert [one.until for one in cooldowns.list()] == [then]


@pytest.mark.parametrize(
    ("first", "second", "is_written"),
    [
        (NOW + 60, NOW + 60, False),
        (NOW + 60, NOW + 30, False),
        (NOW + 60, None, False),
        (NOW + 60, NOW + 61, False),
        (NOW + 60, NOW + 62, True),
        (NOW + 10, NOW + 11, True),
        (None, None, False),
        (None, NOW + 60, True),
        (NOW, NOW + 1, True),
        (NOW, None, True),
    ],
)
def test_only_news_is_written(path: Path, first: int | None, second: int | None, *, is_written: bool) -> None:
    with State(path, now=lambda: NOW) as one, State(path, now=lambda: NOW + 1) as other:
        noted = one.cooldowns.put(replace(LIMITED, until=first))
        before = other.version()
        on_record = other.cooldowns.put(replace(LIMITED, until=second), is_better_informed=False)
        assert (other.version() != before) is is_written
        assert one.cooldowns.list() == (on_record,)
        assert (on_record == noted) is not is_written


@pytest.mark.parametrize("until", [NOW + 60, None])
def test_what_a_clock_noted_that_was_set_back_is_over_and_replaced(path: Path, until: int | None) -> None:
    with State(path, now=lambda: NOW + 3600) as before, State(path, now=lambda: NOW) as after:
        assert before.cooldowns.put(replace(LIMITED, until=NOW + 7200)).is_over(NOW)
        found = after.cooldowns.put(replace(LIMITED, until=until))
        assert (found.until, found.noted_at, found.is_over(NOW)) == (until, NOW, False)


def test_another_credential_that_is_refused_is_news(cooldowns: Cooldowns) -> None:
    refused = replace(LIMITED, cause="refused", until=None)
    cooldowns.put(replace(refused, evidence="key 1a2b"))
    cooldowns.put(replace(refused, evidence="key 3c4d"))
    assert [one.evidence for one in cooldowns.list()] == ["key 3c4d"]


@pytest.mark.parametrize("until", [NOW + 60, None])
def test_what_a_later_probe_finds_again_is_written_and_puts_off_the_next_one(path: Path, until: int | None) -> None:
    with State(path, now=lambda: NOW) as one, State(path, now=lambda: NOW + 45) as other:
        one.cooldowns.put(replace(LIMITED, until=until))
        other.cooldowns.put(replace(LIMITED, until=until))
        assert [each.noted_at for each in one.cooldowns.list()] == [NOW + 45]


@pytest.mark.parametrize("until", [NOW + 1, NOW - 60, None])
def test_who_is_better_informed_may_shorten_it(cooldowns: Cooldowns, until: int | None) -> None:
    cooldowns.put(LIMITED)
    probe = replace(LIMITED, source="probe", until=until, evidence="utilization 0.2")
    assert cooldowns.put(probe, is_better_informed=True) == replace(probe, noted_at=NOW)
    assert [one.until for one in cooldowns.list()] == [until]


def test_every_scope_and_cause_has_its_own(cooldowns: Cooldowns) -> None:
    all_of_them = [
        replace(LIMITED, scope=scope, cause=cause)
        for scope in (
            ALICE,
            Scope("account", "alice", "opus"),
            Scope("organization", "alice"),
            Scope("provider", "anthropic", "opus"),
        )
        for cause in ("rate-limited", "billing")
    ]
    for one in all_of_them:
        cooldowns.put(one)
    assert len(cooldowns.list()) == len(all_of_them)
    assert {*cooldowns.list()} == {replace(one, noted_at=NOW) for one in all_of_them}
    assert cooldowns.clear(ALICE, "billing") == 1
    assert cooldowns.clear(ALICE, "billing") == 0
    assert cooldowns.clear(Scope("account", "alice", "opus")) == 2
    assert [one.scope for one in cooldowns.list()].count(ALICE) == 1
    assert len(cooldowns.list()) == 5


def test_one_that_is_over_is_kept_until_it_is_cleared(cooldowns: Cooldowns) -> None:
    cooldowns.put(replace(LIMITED, until=NOW))
    (found,) = cooldowns.list()
    assert found.is_over(NOW)
    assert not found.is_over(NOW - 1)
    assert not replace(LIMITED, until=None).is_over(NOW * 2)
    cooldowns.clear(ALICE)
    assert cooldowns.list() == ()


def test_it_survives_a_restart(path: Path) -> None:
    with State(path) as state:
        noted = state.cooldowns.put(LIMITED)
    with State(path) as state:
        assert state.cooldowns.list() == (noted,)


def test_what_another_process_notes_or_clears_counts_at_the_next_look(file: Path, cooldowns: Cooldowns) -> None:
    script = (
        "import sys; from pathlib import Path; from tokenferry.state import Cooldown, Scope, State\n"
        "with State(Path(sys.argv[1])) as state:\n"
        "    scope = Scope('account', 'bob')\n"
        "    if sys.argv[2] == 'put': state.cooldowns.put(Cooldown(scope, 'billing', 'answer'))\n"
        "    else: state.cooldowns.clear(scope)"
    )
    for what, names in (("put", ["bob"]), ("clear", [])):
        assert cooldowns.list() is cooldowns.list(), "nothing is read anew while nothing has changed"
        subprocess.run([sys.executable, "-c", script, str(file), what], check=True)
        assert [one.scope.name for one in cooldowns.list()] == names


def test_an_older_file_gets_a_place_for_them(file: Path) -> None:
    SqliteDatabase(file, replace(STATE_SCHEMA, migrations=STATE_SCHEMA.migrations[:1])).close()
    with State(file) as state:
        assert state.cooldowns.put(LIMITED) in state.cooldowns.list()


ends = st.none() | st.integers(NOW - 100, NOW + 100)


@given(ends=st.lists(ends, min_size=1, max_size=6))
def test_the_order_of_news_does_not_matter_while_all_ends_lie_ahead(
    tmp_path_factory: pytest.TempPathFactory, ends: list[int | None]
) -> None:
    with State(tmp_path_factory.mktemp("home") / "state.db", now=lambda: NOW) as state:
        for until in ends:
            state.cooldowns.put(replace(LIMITED, until=until))
        (found,) = state.cooldowns.list()
        ahead = [until for until in ends if until is not None and until > NOW]
        if ahead:
            assert found.until is not None
            assert max(ahead) - 1 <= found.until <= max(ahead)
