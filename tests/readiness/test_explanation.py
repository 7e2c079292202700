"""Where a request would go, said by a pool that serves: explaining changes nothing of what happens."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.pool import Criteria, ErrorResponse, Failover, Pool, SendAttempt, Served, Trace, failover
from tokenferry.providers import Provider
from tokenferry.readiness import ANYONE, RouteExplanation, explain_route
from tokenferry.routing import BodyFacts, Router, RouteRequest, RouteResolver, scan
from tokenferry.settings import Caps, ModelMapping, ModelSettings, PoolSettings, RouterSettings
from tokenferry.stores import Account

PROVIDERS = {"one": Provider("one", "one", "http://127.0.0.1:9")}
SESSIONS = ("", "s", "t")


@dataclass
class Listed:
    accounts: tuple[Account, ...] = tuple(Account(name, "one", "api-key", created_at=1) for name in ("a", "b", "c"))
    default_provider: str | None = "one"


class World:
    """A pool at work on a clock of its own."""

    def __init__(self, pool_settings: PoolSettings) -> None:
        self.at = 1_000_000.0
        self.pool = Pool(pool_settings, now=lambda: self.at, monotonic=lambda: self.at, rng=Random(1))
        listed = Listed()
        self.resolver = RouteResolver(RouterSettings(), PROVIDERS, Router(), lambda: listed)
        self.under_way: list[Any] = []
        self.listed = listed
        self.was_probe = False
        facts = scan([b'{"model": "m"}'])
        assert isinstance(facts, BodyFacts)
        self.asked = RouteRequest(facts)

    def explain(self, session: str) -> RouteExplanation:
        return explain_route(
            self.resolver,
            self.pool,
            self.asked,
            ANYONE,
            affinity=session,
            providers=PROVIDERS,
            listing=self.listed,
            unusable={},
        )

    def request(self, session: str, status: int) -> str | None:
        """Begin a request, answer its first attempt; give whom it asked."""
        plan = self.resolver.resolve(self.asked, ANYONE)
        flow: Failover = failover(self.pool, plan.targets, Criteria(session), Trace(self.at))  # type: ignore[union-attr]
        asked = None
        try:
            step = next(flow)
            if not isinstance(step, SendAttempt):
                return None
            asked, self.was_probe = step.account.name, step.is_probe
            headers = ((b"retry-after", b"100"),)
            flow.send(Served(200, ()) if status == 200 else ErrorResponse(status, headers, b"{}"))
        except StopIteration as end:
            if (lease := getattr(end.value, "lease", None)) is not None:
                self.under_way.append(lease)
            return asked
        finally:
            flow.close()
        return asked

    def end(self) -> None:
        if self.under_way:
            self.under_way.pop(0).end()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.sampled_from(SESSIONS), st.sampled_from((200, 200, 401, 404, 429, 529))),
        st.tuples(st.just("end")),
        st.tuples(st.just("pass"), st.sampled_from((0.3, 61.0, 400.0))),
    ),
    max_size=12,
)
SETTINGS = st.builds(
    PoolSettings,
    strategy=st.sampled_from(("priority", "round-robin", "least-utilised")),
    caps=st.sampled_from((Caps(), Caps(max_concurrency=1), Caps(requests_per_minute=60))),
)


@settings(max_examples=effort(60))
@given(SETTINGS, STEPS)
def test_an_explanation_takes_no_slot_begins_no_probe_and_pins_no_session(
    pool_settings: PoolSettings, steps: list[Any]
) -> None:
    plain, explained = World(pool_settings), World(pool_settings)
    for name, *given_ in steps:
        for session in SESSIONS:
            assert explained.explain(session) == explained.explain(session)
        if name == "request":
            assert plain.request(*given_) == explained.request(*given_)
        for world in (plain, explained):
            if name == "pass":
                world.at += given_[0]
            elif name == "end":
                world.end()
        assert plain.pool.capacity.busy == explained.pool.capacity.busy


@settings(max_examples=effort(40))
@given(SETTINGS, STEPS)
def test_the_account_that_is_named_is_the_one_that_is_asked(pool_settings: PoolSettings, steps: list[Any]) -> None:
    world = World(pool_settings)
    for name, *given_ in steps:
        if name == "request":
            (target,) = world.explain(given_[0]).targets
            asked = world.request(*given_)
            assert asked == target.account or target.account is None or world.was_probe
        elif name == "pass":
            world.at += given_[0]
        else:
            world.end()


@pytest.mark.parametrize(("n", "status"), [(1, 200), (2, 400)])
def test_a_request_is_explained_in_its_clients_format(n: int, status: int) -> None:
    listed = Listed()
    resolver = RouteResolver(RouterSettings(), PROVIDERS, Router(), lambda: listed)
    facts = scan([json.dumps({"model": "m", "n": n, "messages": [{"role": "user", "content": "x"}]}).encode()])
    assert isinstance(facts, BodyFacts)
    asked = RouteRequest(facts, wire_format="openai")
    found = explain_route(
        resolver, Pool(), asked, ANYONE, affinity="", providers=PROVIDERS, listing=listed, unusable={}
    )
    assert (found.status, "can't say" in str(found.targets[0].why)) == (status, status == 400)


@pytest.mark.parametrize(("tools", "status"), [([], 200), ([{"type": "web_search_20250305", "name": "x"}], 400)])
def test_a_target_whose_format_cannot_express_the_request_is_listed_with_the_reason(tools: Any, status: int) -> None:
    providers = {"one": Provider("one", "one", "https://llm.example/v1", wire_format="openai")}
    models = [ModelSettings("m", (ModelMapping("one", "gpt"),))]
    listed = Listed()
    router = Router(RouterSettings(), models, providers)
    resolver = RouteResolver(RouterSettings(), providers, router, lambda: listed)
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "tools": tools}
    facts = scan([json.dumps(body).encode()])
    assert isinstance(facts, BodyFacts)
    asked = RouteRequest(facts)
    found = explain_route(
        resolver, Pool(), asked, ANYONE, affinity="", providers=providers, listing=listed, unusable={}
    )
    assert found.status == status
    assert ("web_search_20250305" in str(found.targets[0].why)) == (status == 400)
    assert (found.targets[0].account is None) == (status == 400)
