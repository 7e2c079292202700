"""The sessions of the dashboard in state.db: made once, bounded, and good no longer than their key."""

import threading
from pathlib import Path

import pytest

from tokenferry.secret import Secret
from tokenferry.state import DashboardSession, State, csrf_token


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(path: Path, clock: Clock) -> State:
    return State(path, now=clock)


def begin(state: State, **fields: str) -> tuple[DashboardSession, Secret]:
    return state.sessions.begin(name="dashboard", role="admin", way="command", **fields)


def test_processes_that_ask_at_once_get_the_same_label(path: Path) -> None:
    State(path).close()
    found: list[str] = []

    def ask() -> None:
        with State(path) as opened:
            found.append(opened.sessions.label())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 13


def test_only_the_digest_of_a_session_is_kept(state: State, file: Path) -> None:
    _, secret = begin(state)
    code = state.sessions.make_code()
    written = b"".join(file.read_bytes() for file in file.parent.glob("state.db*"))
    for value in (secret, code):
        assert value.reveal().encode() not in written


def test_being_seen_is_written_once_a_minute_and_keeps_a_session_alive(state: State, clock: Clock) -> None:
    session, secret = begin(state)
    for step, written in ((59, 0), (1, 60), (59, 60)):
        clock.now += step
        found = state.sessions.find(secret)
        assert found is not None
        state.sessions.seen(found)
        again = state.sessions.find(secret)
        assert again is not None
        assert again.seen_at - session.seen_at == written
    clock.now += 12 * 3600
    assert state.sessions.find(secret) is None
    assert state.sessions.list() == []


def test_a_clock_that_was_set_back_far_ends_a_session(state: State, clock: Clock) -> None:
    _, secret = begin(state)
    clock.now -= 13 * 3600
    assert state.sessions.find(secret) is None


def test_of_many_sessions_the_oldest_end(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenferry.state._sessions._MOST", 3)
    secrets = [begin(state)[1] for _ in range(5)]
    assert [state.sessions.find(secret) is not None for secret in secrets] == [False, False, True, True, True]


def test_a_session_has_its_keys_name_and_ends_with_it(state: State) -> None:
    key, _ = state.keys.create("boss", role="admin")
    _, secret = state.sessions.begin(name="boss", role="admin", way="key", key=key.id)
    state.keys.rename("boss", "chief")
    found = state.sessions.find(secret)
    assert found is not None
    assert found.name == "chief"
    state.keys.revoke("chief")
    assert state.sessions.find(secret) is None
    assert state.sessions.get(found.id) is None


def test_a_role_that_is_not_the_keys_opens_nothing(state: State) -> None:
    key, _ = state.keys.create("looker", role="viewer")
    _, secret = state.sessions.begin(name="looker", role="admin", way="key", key=key.id)
    assert state.sessions.find(secret) is None


def test_a_notice_is_given_once(state: State) -> None:
    session, _ = begin(state)
    state.sessions.leave_notice(session.id, "Done.")
    assert [state.sessions.take_notice(session.id) for _ in range(2)] == ["Done.", ""]


def test_a_token_is_of_one_session_and_tells_nothing_of_its_secret(state: State) -> None:
    tokens = {csrf_token(begin(state)[1]) for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 64 for token in tokens)
