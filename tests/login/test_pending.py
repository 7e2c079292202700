import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import shows
from tokenferry.login import PendingLogin, PendingLogins
from tokenferry.oauth import OAuthEndpoints
from tokenferry.secret import Secret

ENDPOINTS = OAuthEndpoints(authorize_url="https://idp.example/authorize", token_url="https://idp.example/token")
SESSION, OTHER = Secret("the-session-of-this-browser"), Secret("the-session-of-another-one")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pending(clock: Clock) -> PendingLogins:
    return PendingLogins(monotonic=clock)


def test_a_state_gives_the_login_with_its_provider_once(pending: PendingLogins) -> None:
    begun = pending.begin("idp", ENDPOINTS, SESSION, ("a",))
    login = pending.take(begun.state.reveal(), SESSION)
    assert login is not None
    assert (login.provider, login.authorization, login.authorization.scopes) == ("idp", begun, ("a",))
    assert pending.take(begun.state.reveal(), SESSION) is None


def test_parallel_logins_do_not_mix(pending: PendingLogins) -> None:
    begun = {f"idp{number}": pending.begin(f"idp{number}", ENDPOINTS, SESSION) for number in range(50)}
    assert len({one.verifier for one in begun.values()} | {one.state for one in begun.values()}) == 100
    for name, one in reversed(begun.items()):
        login = pending.take(one.state.reveal(), SESSION)
        assert login is not None
        assert (login.provider, login.authorization.verifier) == (name, one.verifier)


def test_another_sessions_state_is_worth_nothing_and_then_used_up(pending: PendingLogins) -> None:
    state = pending.begin("idp", ENDPOINTS, SESSION).state.reveal()
    assert pending.take(state, OTHER) is None
    assert pending.take(state, SESSION) is None


def test_it_expires(pending: PendingLogins, clock: Clock) -> None:
    first, second = (pending.begin("idp", ENDPOINTS, SESSION).state.reveal() for _ in range(2))
    clock.now += pending.lifetime - 1
    assert pending.take(first, SESSION) is not None
    clock.now += 1
    assert pending.take(second, SESSION) is None


def test_of_a_thousand_and_more_the_oldest_are_given_up(pending: PendingLogins, clock: Clock) -> None:
    states = [pending.begin("idp", ENDPOINTS, SESSION).state.reveal() for _ in range(1100)]
    assert len(pending) == 1000
    assert pending.take(states[99], SESSION) is None
    assert pending.take(states[100], SESSION) is not None
    clock.now += pending.lifetime
    pending.begin("idp", ENDPOINTS, SESSION)
    assert len(pending) == 1


def test_of_many_who_take_it_at_once_one_gets_it(pending: PendingLogins) -> None:
    state = pending.begin("idp", ENDPOINTS, SESSION).state.reveal()
    found: list[PendingLogin | None] = []
    threads = [threading.Thread(target=lambda: found.append(pending.take(state, SESSION))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in found) == 1


@given(st.text(max_size=100))
def test_a_forged_or_missing_state_is_nobodys(presented: str) -> None:
    pending = PendingLogins()
    pending.begin("idp", ENDPOINTS, SESSION)
    assert pending.take(presented, SESSION) is None
    assert len(pending) == 1


def test_it_shows_nothing_of_what_it_holds(pending: PendingLogins) -> None:
    begun = pending.begin("idp", ENDPOINTS, SESSION)
    login = pending.take(begun.state.reveal(), SESSION)
    assert not shows(repr((login, vars(pending))), begun.state.reveal(), begun.verifier.reveal(), SESSION.reveal())
