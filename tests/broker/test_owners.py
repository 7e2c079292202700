"""When a token is renewed belongs to the owner of its token family; each grant is counted."""

from collections.abc import Iterator

import pytest

from refresh.rig import LIFETIME, NAME, Rig, answer, token, value
from tokenferry.errors import NeedsLogin
from tokenferry.settings import Home


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


def test_ours_of_unknown_expiry_is_renewed_at_first_use_and_once(rig: Rig) -> None:
    rig.put(token(left=None, lifetime=None))
    first, second = rig.broker(), rig.broker()
    for broker in (first, second, first):
        assert value(broker.resolve(NAME)) == "access-1"
    rig.clock.advance(LIFETIME - 400)
    assert value(second.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1


def test_ours_of_unknown_expiry_is_used_while_it_can_not_be_renewed(rig: Rig) -> None:
    """The token may be good; the token endpoint is asked by the shared back-off, not by every call."""
    rig.put(token(left=None))
    rig.endpoint.script.append(answer(503, {"retry-after": "60"}))
    broker = rig.broker()
    for _ in range(20):
        assert value(broker.resolve(NAME)) == "access-0"
        rig.clock.advance(1)
    assert rig.endpoint.requests == 1
    rig.clock.advance(60)
    assert value(broker.resolve(NAME)) == "access-2"


def test_ours_without_a_refresh_token_is_used_as_it_is(rig: Rig) -> None:
    rig.put(token(left=None, refresh=None))
    assert value(rig.broker().resolve(NAME)) == "access-0"
    assert rig.endpoint.requests == 0


@pytest.mark.parametrize("owner", ["claude-code", "ant", "external"])
def test_anothers_of_unknown_expiry_is_never_renewed_by_its_age(rig: Rig, owner: str) -> None:
    rig.put(token(left=None), owner=owner)
    broker = rig.broker()
    for _ in range(3):
        assert value(broker.resolve(NAME)) == "access-0"
        rig.clock.advance(30 * 86_400)
    assert rig.endpoint.requests == 0


def test_claude_codes_of_unknown_expiry_heals_by_a_401_alone(rig: Rig) -> None:
    rig.put(token(left=None), owner="claude-code")
    broker = rig.broker()
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1


@pytest.mark.parametrize("owner", ["ant", "external"])
def test_the_others_are_theirs_to_renew_after_a_401(rig: Rig, owner: str) -> None:
    rig.put(token(left=None), owner=owner)
    broker = rig.broker()
    broker.invalidate(NAME, broker.resolve(NAME).secret)
    with pytest.raises(NeedsLogin, match=f"owned by {owner}"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 0


@pytest.mark.parametrize(("owner", "left", "grants"), [("tokenferry", 29, 1), ("claude-code", 29, 0), ("ant", 29, 0)])
def test_only_ours_is_renewed_ahead_of_its_expiry(rig: Rig, owner: str, left: float, grants: int) -> None:
    rig.put(token(left=left), owner=owner)
    rig.broker().resolve(NAME)
    assert rig.endpoint.requests == grants
