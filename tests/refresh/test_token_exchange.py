"""A long-lived token's exchange, over real files and between brokers that share them."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from refresh.rig import LIFETIME, NAME, PATIENCE, START, Rig, answer, document, put, value, wait_for
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, ExchangedToken
from tokenferry.errors import (
    CredentialRefused,
    LoginFailed,
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    TryLater,
    UsageError,
)
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenExchange, TokenRequest, TokenResponseLost
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings
from tokenferry.stores import Account

EXCHANGE = TokenExchange(
    url="{base_url}/exchange",
    parameters=(("subject_token", "{token}"),),
    endpoint_field="api",
    endpoint_hosts=("auth.invalid",),
)
SUBJECT = "gho_subject-1"
SEAT = answer(403, message="Ask for a seat")


def providers(exchange: TokenExchange = EXCHANGE) -> dict[str, Provider]:
    return {"fake": Provider("fake", "fake", "https://auth.invalid", oauth=OAuthEndpoints(token_exchange=exchange))}


class Exchanger:
    """Where long-lived tokens are exchanged: it notes what is presented, and answers as scripted, else with a token."""

    def __init__(self) -> None:
        self.presented: list[str] = []
        self.script: list[HttpOutcome] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(
        self, request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None
    ) -> HttpOutcome:
        assert request.url == "https://auth.invalid/exchange"
        self.presented.append(json.loads(request.body)["subject_token"])
        number = len(self.presented)
        assert self.gate.wait(PATIENCE)
        if self.script:
            return self.script.pop(0)
        return answer(200, access_token=f"api-{number}", expires_in=LIFETIME, api="https://eu.auth.invalid/v1")


@pytest.fixture
def exchanger() -> Exchanger:
    return Exchanger()


def expired(left: float = -10.0, subject: str = SUBJECT, **changes: Any) -> ExchangedToken:
    """An API token with so many seconds left."""
    times = {"expires_at": int(START + left), "lifetime": LIFETIME}
    return ExchangedToken(Secret("api-0"), subject=Secret(subject), **(times | changes))


def store(rig: Rig, token: ExchangedToken) -> None:
    put(rig.store, document(token, kind="exchanged"))


def broker(rig: Rig, exchanger: Exchanger, **given: Any) -> Broker:
    return rig.broker(**({"send": exchanger, "providers": providers()} | given))


def test_fifty_callers_of_brokers_that_share_a_home_make_one_exchange(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    brokers = [broker(rig, exchanger) for _ in range(5)]
    given: list[str] = []
    exchanger.gate.clear()
    threads = [threading.Thread(target=lambda one=one: given.append(value(one.resolve(NAME)))) for one in brokers * 10]
    for thread in threads:
        thread.start()
    wait_for(lambda: exchanger.presented)
    exchanger.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert given == ["api-1"] * 50
    assert exchanger.presented == [SUBJECT]
    stored = rig.store.read(NAME).credential
    assert isinstance(stored, ExchangedToken)
    assert (stored.subject.reveal(), stored.endpoint, stored.source) == (
        SUBJECT,
        "https://eu.auth.invalid/v1",
        "refresh",
    )


def test_a_refusal_needs_a_login_and_is_shared_until_the_next_request(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    exchanger.script.append(SEAT)
    first, second = broker(rig, exchanger), broker(rig, exchanger)
    for one in (first, second, first):
        with pytest.raises(
            NeedsLogin, match=r"HTTP 403 \(Ask for a seat\); get another token with: tokenferry login wo"
        ):
            one.resolve(NAME)
    hasty = broker(rig, exchanger, settings=RefreshSettings(wait=0.05))
    with rig.store.exclusive(NAME, 0), pytest.raises(NeedsLogin, match="Ask for a seat"):
        hasty.resolve(NAME)  # without waiting for the lock
    assert exchanger.presented == [SUBJECT]
    assert value(first.refresh(NAME)) == "api-2"
    assert value(second.resolve(NAME)) == "api-2"
    assert first.journal.failure(NAME) is None


def test_a_refusal_says_nothing_of_another_long_lived_token(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    exchanger.script.append(answer(401, message="Bad credentials"))
    one = broker(rig, exchanger)
    with pytest.raises(NeedsLogin, match="Bad credentials"):
        one.resolve(NAME)
    store(rig, expired(subject="gho_subject-2"))
    assert value(broker(rig, exchanger).resolve(NAME)) == "api-2"
    assert exchanger.presented == [SUBJECT, "gho_subject-2"]


def test_the_present_token_is_used_while_it_lives(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired(20))
    exchanger.script.append(SEAT)
    one = broker(rig, exchanger)
    assert value(one.resolve(NAME)) == "api-0"
    rig.clock.advance(30)
    with pytest.raises(NeedsLogin):
        one.resolve(NAME)


@pytest.mark.parametrize(
    "outcome",
    [NotSent("no route"), TokenResponseLost("cut"), answer(503), answer(200, nothing=1)],
    ids=["not sent", "lost", "503", "unreadable"],
)
def test_what_decides_nothing_is_tried_again_after_a_back_off_that_all_share(
    rig: Rig, exchanger: Exchanger, outcome: Any
) -> None:
    store(rig, expired())
    exchanger.script.append(outcome)
    first, second = broker(rig, exchanger), broker(rig, exchanger)
    for one in (first, second):
        with pytest.raises(RefreshFailed, match="the next try is in 1 s"):
            one.resolve(NAME)
    assert exchanger.presented == [SUBJECT]
    rig.clock.advance(1.5)
    assert value(second.resolve(NAME)) == "api-2"


def test_an_address_that_is_not_allowed_is_used_neither_new_nor_from_before(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    exchanger.script.append(answer(200, access_token="api-1", api="https://elsewhere.invalid"))
    one = broker(rig, exchanger)
    with pytest.raises(RefreshFailed, match=r"its API is at 'elsewhere\.invalid', which endpoint_hosts"):
        one.resolve(NAME)
    store(rig, expired(5000, endpoint="https://elsewhere.invalid"))
    with pytest.raises(CredentialRefused, match="add it there if it is the vendor's"):
        broker(rig, exchanger).resolve(NAME)


def test_a_process_without_the_lock_learns_why(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    settings = replace(rig.broker().settings, wait=0.2)
    with rig.store.exclusive(NAME, PATIENCE), pytest.raises(RefreshBusy, match="is exchanging its token"):
        broker(rig, exchanger, settings=settings).resolve(NAME)


def test_without_a_declaration_it_is_no_longer_refreshed(rig: Rig, exchanger: Exchanger) -> None:
    store(rig, expired())
    none = {"fake": Provider("fake", "fake", "https://auth.invalid")}
    with pytest.raises(RefreshFailed, match=r"declares no token_exchange.*add one under \[\[providers\]\]"):
        broker(rig, exchanger, providers=none).resolve(NAME)
    assert not exchanger.presented


def test_only_an_exchanged_token_becomes_an_account_of_such_a_provider(rig: Rig, exchanger: Exchanger) -> None:
    one = broker(rig, exchanger)
    key, provider = ApiKey(Secret(SUBJECT)), providers()["fake"]
    with pytest.raises(UsageError, match="was not exchanged; add it with: tokenferry account add work --provider fake"):
        one.add(Account(NAME, "fake", "api-key"), key)
    token = one.exchanged(provider, key)
    assert isinstance(token, ExchangedToken)
    one.add(Account(NAME, "fake", token.kind), token)
    assert value(one.resolve(NAME)) == "api-1"


@pytest.mark.parametrize(
    ("outcome", "error", "sentence"),
    [
        (
            SEAT,
            CredentialRefused,
            r"HTTP 403 \(Ask for a seat\); nothing was stored; use another token, or get access for this one",
        ),
        (answer(404, message="Not Found"), LoginFailed, r"HTTP 404 \(Not Found\); nothing was stored"),
        (answer(200, access_token="x", api="https://elsewhere.invalid"), LoginFailed, "endpoint_hosts"),
        (answer(503), TryLater, "nothing was stored, try again later"),
        (NotSent("no route"), TryLater, "no route; nothing was stored, try again later"),
    ],
)
def test_the_first_exchange_says_what_has_to_change(
    rig: Rig, exchanger: Exchanger, outcome: HttpOutcome, error: type[Exception], sentence: str
) -> None:
    exchanger.script.append(outcome)
    with pytest.raises(error, match=sentence):
        broker(rig, exchanger).exchanged(providers()["fake"], ApiKey(Secret(SUBJECT)))
