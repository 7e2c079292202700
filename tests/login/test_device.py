from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from tokenferry.errors import LoginFailed, TryLater
from tokenferry.login import DeviceLogin
from tokenferry.oauth import DeviceCode, HttpOutcome, OAuthEndpoints, TokenRequest, TokenResponse
from tokenferry.providers import builtin_providers
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox

PATIENCE = 20.0


class Clock:
    """Time that passes when somebody sleeps, here and in the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self._sandbox.advance(seconds)


@pytest.fixture
def clock(tokenferry_sandbox: Sandbox) -> Clock:
    return Clock(tokenferry_sandbox)


@pytest.fixture
def endpoints(tokenferry_sandbox: Sandbox) -> OAuthEndpoints:
    return builtin_providers()["sandbox"].oauth.at(tokenferry_sandbox.url)


def answer(url: str, code: str, **given: str) -> None:
    done = httpx2.post(url, data={"user_code": code} | given, timeout=PATIENCE)
    assert done.status_code == 200, done.text


def begin(endpoints: OAuthEndpoints, clock: Clock, **given: Any) -> DeviceLogin:
    show = given.pop("show", lambda _: None)
    more = {"send": send, "sleep": clock.sleep, "monotonic": clock.monotonic} | given
    return DeviceLogin(endpoints, show=show, **more)


def test_a_code_that_is_confirmed_elsewhere_gives_the_tokens(endpoints: OAuthEndpoints, clock: Clock) -> None:
    shown: list[DeviceCode] = []
    known: list[Any] = []

    def show(code: DeviceCode) -> None:
        shown.append(code)
        answer(code.url, code.user_code, account="carol")

    token = begin(endpoints, clock, show=show, know=known.append).run()
    assert token.email == "carol@example.com"
    assert token.refresh is not None
    assert token.scopes == endpoints.scopes
    assert known == [shown[0].code]
    assert shown[0].direct_url is not None


def test_it_keeps_the_servers_pace_and_tells_how_long_is_left(
    endpoints: OAuthEndpoints, clock: Clock, tokenferry_sandbox: Sandbox
) -> None:
    """Nobody answers: the sandbox would say slow_down to who asks too early, and its interval would grow."""
    tokenferry_sandbox.settings(device_interval=20, device_lifetime=90)
    asked: list[float] = []
    left: list[float] = []

    def note(request: TokenRequest, timeout: float) -> HttpOutcome:
        asked.append(clock.now)
        return send(request, timeout)

    with pytest.raises(LoginFailed, match="was not confirmed in time"):
        begin(endpoints, clock, send=note, tick=left.append).run()
    assert asked == [0, 20, 40, 60, 80]
    assert max(clock.slept) <= 1.0
    assert left[0] == 90
    assert left == sorted(left, reverse=True)


def test_it_slows_down_when_asked_to(endpoints: OAuthEndpoints, clock: Clock) -> None:
    asked: list[float] = []

    def slow(request: TokenRequest, timeout: float) -> HttpOutcome:
        asked.append(clock.now)
        return send(request, timeout) if len(asked) != 2 else TokenResponse(400, {}, b'{"error": "slow_down"}')

    def show(code: DeviceCode) -> None:
        answer(code.url, code.user_code, account="alice")

    begin(endpoints, clock, send=slow, show=show).run()
    assert asked == [0, 5, 15]


def test_a_no_is_reported_as_one(endpoints: OAuthEndpoints, clock: Clock) -> None:
    def show(code: DeviceCode) -> None:
        answer(code.url, code.user_code, deny="1")

    with pytest.raises(LoginFailed, match="the login was refused"):
        begin(endpoints, clock, show=show).run()


def test_a_lost_answer_is_asked_for_again(endpoints: OAuthEndpoints, clock: Clock, tokenferry_sandbox: Sandbox) -> None:
    def show(code: DeviceCode) -> None:
        answer(code.url, code.user_code, account="alice")
        tokenferry_sandbox.fault("status", status=503, path="/v1/oauth/token")

    assert begin(endpoints, clock, show=show).run().email == "alice@example.com"
    assert clock.now == pytest.approx(15)


def test_an_interrupt_ends_it_at_once(endpoints: OAuthEndpoints, clock: Clock) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(endpoints, clock, sleep=interrupt).run()


def test_where_no_code_can_be_had_nothing_is_shown(endpoints: OAuthEndpoints, clock: Clock) -> None:
    def show(_: DeviceCode) -> None:
        raise AssertionError

    with pytest.raises(TryLater, match="no code could be asked for"):
        begin(replace(endpoints, device_authorization_endpoint="http://127.0.0.1:1/device"), clock, show=show).run()
