"""Claude Code's requests, routed as the documentation says."""

import json

import pytest

from routing import claude_code
from routing.written import read
from tokenferry.providers import Provider
from tokenferry.routing import BodyFacts, Route, Router, rewrite, scan
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings

PROVIDERS = {"zai": Provider("zai", "z.ai", "https://api.z.ai/api/anthropic")}
MODELS = [
    ModelSettings(name, (ModelMapping("zai", f"up/{name}"),)) for name in ("main", "small", "deep", "search", "own")
]
SETTINGS = RouterSettings(default="main", background="small", think="deep", websearch="search")


def routed(body: bytes, settings: RouterSettings = SETTINGS) -> tuple[BodyFacts, Route]:
    facts = scan([body])
    assert isinstance(facts, BodyFacts)
    route = Router(settings, MODELS, PROVIDERS).route(facts)
    assert isinstance(route, Route)
    return facts, route


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (claude_code.body(), "auto_map"),
        (claude_code.body("claude-haiku-4-5-20251001"), "background"),
        (claude_code.body(thinking={"type": "enabled", "budget_tokens": 31_999}), "think"),
        (claude_code.body(tools=[claude_code.SERVERS_SEARCH]), "websearch"),
        (claude_code.body(third="<CCM-SUBAGENT-MODEL>own</CCM-SUBAGENT-MODEL>\nYou are a reviewer."), "subagent"),
    ],
)
def test_each_kind_of_request_goes_by_its_rule(body: bytes, rule: str) -> None:
    """Its own WebSearch tool is the client's and counts for nothing; adaptive thinking comes with every request."""
    facts, route = routed(body)
    assert route.rule == rule
    sent = b"".join(rewrite(facts, route.targets[0].model, without_tag=route.without_tag))
    assert facts.stream
    assert json.loads(sent)["model"] == route.targets[0].model
    assert json.loads(sent)["tools"] == json.loads(body)["tools"]


def test_adaptive_thinking_is_thinking_where_that_is_wished() -> None:
    assert routed(claude_code.body(), RouterSettings(think="deep", think_adaptive=True))[1].rule == "think"


@pytest.mark.parametrize("size", [2_000, 49_000, 200_000])
def test_all_but_the_models_name_is_byte_for_byte_what_the_client_sent(size: int) -> None:
    body = claude_code.body(size=size)
    facts, route = routed(body)
    pieces = rewrite(facts, route.targets[0].model)
    assert b"".join(pieces) == body.replace(b'"claude-opus-5-5"', b'"up/main"', 1)
    assert sum(isinstance(piece, memoryview) for piece in pieces) == 2
    assert [key for key, _ in read(b"".join(pieces))] == [key for key, _ in read(body)]


def test_the_tag_goes_and_the_billing_header_stays_in_its_place() -> None:
    body = claude_code.body(third="a\n<CCM-SUBAGENT-MODEL>own</CCM-SUBAGENT-MODEL>\nb")
    facts, route = routed(body)
    sent = json.loads(b"".join(rewrite(facts, route.targets[0].model, without_tag=True)))
    assert sent["system"][0]["text"].startswith("x-anthropic-billing-header")
    assert sent["system"][2]["text"] == "a\n\nb"
    assert (sent["model"], route.model) == ("up/own", "own")
