import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import NeedsLogin
from tokenferry.oauth import HttpOutcome, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.state import Cooldown, Scope, State, UsageProbe
from tokenferry.stores import Account

NOW = 1_800_000_000.0
WORK = Scope("account", "work")
URL = "https://llm.example/api/oauth/usage"


@dataclass
class World:
    """A machine with one benched login, and its provider's usage endpoint."""

    state: State
    now: float = NOW
    used: dict[str, Any] = field(default_factory=dict)
    asked: list[TokenRequest] = field(default_factory=list)
    answer: HttpOutcome | None = None
    fault: Exception | None = None
    providers: dict[str, Provider] = field(default_factory=dict)
    meanwhile: dict[str, Provider] = field(default_factory=dict)

    def probe(self, seed: int = 1, start: Callable[[Callable[[], None]], None] = lambda work: work()) -> UsageProbe:
        provider = Provider("mine", "mine", "https://llm.example", usage_url="{base_url}/api/oauth/usage")
        return UsageProbe(
            self.state.cooldowns,
            providers=lambda: (
                self.providers or {"mine": provider, "bare": Provider("bare", "bare", "https://llm.example")}
            ),
            accounts=lambda: [Account("other", "bare", "oauth"), Account("work", "mine", "oauth")],
            resolve=self._resolve,
            send=self._send,
            now=lambda: self.now,
            rng=Random(seed),
            start=start,
        )

    def _resolve(self, name: str) -> Credential:
        self.providers = self.meanwhile or self.providers
        if self.fault is not None:
            raise self.fault
        return OAuthToken(Secret("an-access-token"))

    def _send(self, request: TokenRequest, timeout: float) -> HttpOutcome:
        self.asked.append(request)
        return self.answer or TokenResponse(200, {}, json.dumps(self.used).encode())

    def bench(self, family: str = "", cause: str = "window", scope: Scope = WORK) -> None:
        until = int(self.now) + 9000
        self.state.cooldowns.put(Cooldown(Scope("account", scope.name, family), cause, "answer", until, "limited"))

    def untils(self) -> dict[str, int | None]:
        return {one.scope.family: one.until for one in self.state.cooldowns.list()}


def used(percent: float, reset: float = NOW + 5000) -> dict[str, Any]:
    return {"utilization": percent, "resets_at": datetime.fromtimestamp(reset, UTC).isoformat()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found: list[World] = []
    with State(tmp_path / "home" / "state.db", now=lambda: found[0].now) as state:
        found.append(World(state))
        yield found[0]


def look(world: World, probe: UsageProbe) -> None:
    probe.look(world.state.cooldowns.list())


def test_a_login_that_its_endpoint_calls_free_is_free(world: World) -> None:
    world.used = {"five_hour": used(12), "seven_day": used(40), "seven_day_opus": None}
    world.bench()
    probe = world.probe()
    look(world, probe)
    assert not world.asked
    world.now += 300
    look(world, probe)
    (request,) = world.asked
    assert (request.url, request.method, request.body) == (URL, "GET", b"")
    assert ("authorization", "Bearer an-access-token") in request.headers
    assert world.untils() == {}


def test_one_that_is_still_limited_is_so_until_its_windows_reset(world: World) -> None:
    world.used = {"five_hour": used(100.0), "seven_day": used(80, NOW + 90_000)}
    world.bench()
    world.now += 300
    look(world, world.probe())
    until = world.untils()[""]
    assert until is not None
    assert NOW + 5001 <= until <= NOW + 5031


def test_a_family_is_judged_by_its_own_window(world: World) -> None:
    world.used = {"five_hour": used(3), "seven_day_sonnet": used(101, NOW + 70_000)}
    world.bench()
    world.bench("claude-sonnet")
    world.now += 300
    look(world, world.probe())
    assert list(world.untils()) == ["claude-sonnet"]


def test_it_is_asked_no_oftener_than_in_three_minutes_and_by_one_process(world: World) -> None:
    world.used = {"five_hour": used(100, NOW + 90_000)}
    world.bench()
    probes = [world.probe(seed) for seed in range(3)]
    moments = []
    for _ in range(1200):
        world.now += 1
        for probe in probes:
            before = len(world.asked)
            look(world, probe)
            moments += [world.now] * (len(world.asked) - before)
    assert 4 <= len(moments) <= 1200 // 180
    assert all(later - earlier >= 180 for earlier, later in pairwise(moments))


def test_two_processes_that_see_the_same_at_once_ask_once(world: World) -> None:
    world.used = {"five_hour": used(100)}
    world.bench()
    world.now += 300
    seen = world.state.cooldowns.list()
    for seed in (1, 2):
        world.probe(seed).look(seen)
    assert len(world.asked) == 1


def test_while_one_is_asked_about_no_other_is(world: World) -> None:
    world.bench()
    world.now += 300
    begun: list[Callable[[], None]] = []
    probe = world.probe(start=begun.append)
    look(world, probe)
    look(world, probe)
    assert len(begun) == 1
    begun[0]()
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        TokenResponse(429, {}, b"{}"),
        TokenResponse(200, {}, b"<html>"),
        TokenResponse(200, {}, b"[]"),
        TokenResponseLost("no answer"),
    ],
)
def test_an_answer_that_tells_nothing_changes_nothing(world: World, answer: HttpOutcome) -> None:
    world.bench()
    before = world.untils()
    world.now += 300
    world.answer = answer
    look(world, world.probe())
    assert len(world.asked) == 1
    assert world.untils() == before


def test_without_a_credential_nothing_is_asked(world: World) -> None:
    world.bench()
    world.now += 300
    world.fault = NeedsLogin("log in")
    look(world, world.probe())
    assert not world.asked
    assert list(world.untils()) == [""]


@pytest.mark.parametrize(("cause", "scope"), [("refused", WORK), ("window", Scope("account", "other"))])
def test_what_no_usage_answer_could_tell_is_not_asked(world: World, cause: str, scope: Scope) -> None:
    world.bench(cause=cause, scope=scope)
    world.now += 300
    look(world, world.probe())
    assert not world.asked


def test_a_watched_account_is_probed_without_a_cooldown_and_gets_one_if_needed(world: World) -> None:
    world.used = {"five_hour": used(100.0), "seven_day_opus": used(100.0)}
    probe = world.probe()
    probe._watched = lambda: ("work", "other")
    look(world, probe)
    assert len(world.asked) == 1
    (noted,) = world.state.cooldowns.list()
    assert (noted.scope, noted.cause, noted.source) == (WORK, "window", "usage")
    assert noted.evidence == "The account has used up its window 5h."
    world.now += 100
    look(world, probe)
    assert len(world.asked) == 1


def test_who_is_watched_and_free_is_not_benched(world: World) -> None:
    world.used = {"five_hour": used(99.0), "seven_day_opus": used(100.0)}
    probe = world.probe()
    probe._watched = lambda: ("work",)
    look(world, probe)
    assert len(world.asked) == 1
    assert world.untils() == {}


def test_a_credential_for_another_address_is_not_sent_to_the_former_one(world: World) -> None:
    """The configuration changes between the look and the credential."""
    moved = Provider("mine", "mine", "https://other.example", usage_url="{base_url}/api/oauth/usage")
    world.meanwhile = {"mine": moved}
    world.bench()
    probe = world.probe()
    look(world, probe)
    world.now += 300
    look(world, probe)
    assert not world.asked
