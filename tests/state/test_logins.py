import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.secret import Secret
from tokenferry.state import StartedLogin, State

MINE, ANOTHERS = Secret("session-of-mine"), Secret("session-of-another")


class Clock:
    def __init__(self) -> None:
        self.value = 1_800_000_000.0

    def __call__(self) -> float:
        return self.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(path: Path, clock: Clock) -> Iterator[State]:
    with State(path, now=clock) as state:
        yield state


def test_a_state_is_good_once(state: State) -> None:
    given = state.logins.begin("console", MINE)
    assert len(given.reveal()) >= 43
    assert state.logins.take(given, MINE) == StartedLogin("console", 1_800_000_000, 1_800_000_600)
    assert state.logins.take(given, MINE) is None


def test_another_process_may_take_it(state: State, path: Path, clock: Clock) -> None:
    given = state.logins.begin("console", MINE)
    with State(path, now=clock) as elsewhere:
        assert elsewhere.logins.take(given, MINE) is not None
    assert state.logins.take(given, MINE) is None


def test_parallel_logins_do_not_mix(state: State) -> None:
    first, second = state.logins.begin("console", MINE), state.logins.begin("max", ANOTHERS)
    assert first != second
    one, other = state.logins.take(first, MINE), state.logins.take(second, ANOTHERS)
    assert one is not None
    assert other is not None
    assert (one.provider, other.provider) == ("console", "max")


def test_another_sessions_state_is_worth_nothing_and_then_used_up(state: State) -> None:
    given = state.logins.begin("console", MINE)
    assert state.logins.take(given, ANOTHERS) is None
    assert state.logins.take(given, MINE) is None


@pytest.mark.parametrize(("passed", "is_good"), [(599, True), (600, False), (-601, False)])
def test_it_expires_and_a_clock_that_was_set_back_does_not_revive_it(
    state: State, clock: Clock, passed: int, *, is_good: bool
) -> None:
    given = state.logins.begin("console", MINE)
    clock.value += passed
    assert (state.logins.take(given, MINE) is not None) is is_good


def test_of_a_thousand_and_more_the_oldest_are_given_up(state: State, path: Path) -> None:
    database = state.logins._database
    with database.transaction() as connection:
        rows = [(bytes([n >> 8, n & 255]), b"", "x", 1_800_000_000, 1_800_000_600) for n in range(1500)]
        columns = "state, session, provider, started_at, expires_at"
        connection.executemany(f"INSERT INTO logins ({columns}) VALUES (?, ?, ?, ?, ?)", rows)
    given = state.logins.begin("console", MINE)
    (count,) = database.rows("SELECT count(*) FROM logins")[0]
    assert count == 1000
    (oldest,) = database.rows("SELECT state FROM logins ORDER BY state LIMIT 1")[0]
    assert oldest == bytes([501 >> 8, 501 & 255])
    assert state.logins.take(given, MINE) is not None


def test_of_a_thousand_that_one_session_begins_a_hundred_are_left_and_no_other_sessions_is_lost(state: State) -> None:
    another = state.logins.begin("console", ANOTHERS)
    begun = [state.logins.begin("console", MINE) for _ in range(1000)]
    (count,) = state.logins._database.rows("SELECT count(*) FROM logins")[0]
    assert count == 101
    assert state.logins.take(begun[899], MINE) is None
    assert state.logins.take(begun[900], MINE) is not None
    assert state.logins.take(another, ANOTHERS) is not None


def test_a_login_remembers_where_its_code_comes_through_and_whose_it_is(state: State) -> None:
    given = state.logins.begin("idp", MINE, redirect_uri="https://here.example/cb", account="work", client="key_1")
    expected = StartedLogin("idp", 1_800_000_000, 1_800_000_600, "https://here.example/cb", "work", "key_1")
    assert state.logins.find(given) == expected
    assert state.logins.take(given, MINE) == expected
    assert state.logins.find(given) is None


def test_the_browser_that_led_to_the_provider_alone_takes_a_bound_login_and_once(state: State) -> None:
    given = state.logins.begin("idp", MINE)
    assert state.logins.take_bound(given, MINE) is None, "it is bound to no browser yet"
    assert state.logins.bind(given, MINE) is not None
    assert state.logins.bind(given, MINE) is not None, "the same browser may lead there again"
    assert state.logins.take_bound(given, ANOTHERS) is None
    assert state.logins.take_bound(given, MINE) is not None
    assert state.logins.take_bound(given, MINE) is None


def test_a_login_that_a_second_browser_leads_to_is_given_up(state: State) -> None:
    given = state.logins.begin("idp", MINE)
    assert state.logins.bind(given, MINE) is not None
    assert state.logins.bind(given, ANOTHERS) is None
    assert state.logins.take_bound(given, MINE) is None
    assert state.logins.take(given, MINE) is None


@pytest.mark.parametrize("passed", [600, -601])
def test_what_has_expired_is_neither_found_bound_nor_taken(state: State, clock: Clock, passed: int) -> None:
    one, other = (state.logins.begin("idp", MINE) for _ in range(2))
    assert state.logins.bind(other, MINE) is not None
    clock.value += passed
    assert state.logins.find(one) is None
    assert state.logins.bind(one, MINE) is None
    assert state.logins.take_bound(other, MINE) is None


def test_what_has_expired_is_removed(state: State, clock: Clock) -> None:
    state.logins.begin("console", MINE)
    clock.value += 600
    state.logins.begin("console", MINE)
    assert len(state.logins._database.rows("SELECT * FROM logins")) == 1


def test_neither_state_nor_session_is_in_the_file(state: State, file: Path) -> None:
    given = state.logins.begin("console", MINE)
    state.close()
    content = file.read_bytes()
    assert given.reveal().encode() not in content
    assert MINE.reveal().encode() not in content
    connection = sqlite3.connect(file)
    (row,) = connection.execute("SELECT state, session FROM logins").fetchall()
    assert row == (bytes.fromhex(given.sha256), bytes.fromhex(MINE.sha256))
    connection.close()


@given(presented=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).map(Secret))
def test_whatever_is_presented_is_no_error(presented: Secret, tmp_path_factory: pytest.TempPathFactory) -> None:
    with State(tmp_path_factory.getbasetemp() / "any-logins" / "state.db") as state:
        assert state.logins.take(presented, MINE) is None
        assert state.logins.find(presented) is None
        assert state.logins.bind(presented, MINE) is None
        assert state.logins.take_bound(presented, MINE) is None


def test_of_many_who_take_it_at_once_one_gets_it(state: State) -> None:
    given = state.logins.begin("console", MINE)
    taken: list[StartedLogin | None] = []
    threads = [threading.Thread(target=lambda: taken.append(state.logins.take(given, MINE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 8
    assert len([one for one in taken if one is not None]) == 1
