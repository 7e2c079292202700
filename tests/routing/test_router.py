import json
from collections.abc import Sequence
from typing import Any

import pytest

from tokenferry.providers import Provider
from tokenferry.providers._provider import NOWHERE
from tokenferry.routing import BodyFacts, MappedTarget, NoRoute, Route, Router, TooComplex, scan
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings, RuleSettings

URL = "https://llm.example"
PROVIDERS = {
    "one": Provider("one", "one", URL),
    "two": Provider("two", "two", URL),
    "off": Provider("off", "off", URL, enabled=False),
    "chat": Provider("chat", "openai", URL, wire_format="openai"),
    "gem": Provider("gem", "gemini", URL, wire_format="gemini"),
    "bare": Provider("bare", "openai", NOWHERE, wire_format="openai"),
}
TAG = "<CCM-SUBAGENT-MODEL>tagged</CCM-SUBAGENT-MODEL>"
EVERYTHING: dict[str, Any] = {
    "system": TAG,
    "tools": [{"type": "web_search_20250305"}],
    "thinking": {"type": "enabled"},
}


def model(name: str, *mappings: str) -> ModelSettings:
    pairs = [mapping.split(":") for mapping in mappings]
    return ModelSettings(name, tuple(ModelMapping(provider, actual) for provider, actual in pairs))


MODELS = [
    model("glm", "one:glm-5", "two:z/glm-5"),
    model("dead", "off:a", "bare:b", "gone:c"),
    model("translated", "chat:b", "two:b"),
    model("mixed", "off:a", "two:b"),
]


def facts_of(name: str | None = "claude-haiku-4", **more: Any) -> BodyFacts:
    facts = scan([json.dumps(more if name is None else {"model": name, **more}).encode()])
    assert isinstance(facts, BodyFacts)
    return facts


def route(
    settings: RouterSettings,
    facts: BodyFacts,
    models: Sequence[ModelSettings] = (),
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    key: str | None = None,
    size: int = 0,
) -> Route:
    router = Router(settings, models, PROVIDERS)
    found = router.route(facts, headers=headers, key=key, size=size)
    assert isinstance(found, Route), found
    return found


def refused(settings: RouterSettings, facts: BodyFacts, models: Sequence[ModelSettings] = ()) -> NoRoute:
    found = Router(settings, models, PROVIDERS).route(facts)
    assert isinstance(found, NoRoute), found
    return found


def test_without_routing_the_model_goes_to_the_default_providers_under_its_own_name() -> None:
    router = Router()
    assert not router.is_configured
    for facts in (facts_of("x", **EVERYTHING), facts_of(None)):
        found = router.route(facts)
        assert isinstance(found, Route)
        assert (found.rule, found.model, found.targets) == ("default", facts.model, ())
        assert not found.without_tag


ALL = RouterSettings(default="d", background="b", think="t", websearch="w")


@pytest.mark.parametrize(
    ("left_out", "rule", "target"),
    [
        ((), "websearch", "w"),
        (("tools",), "subagent", "tagged"),
        (("tools", "system"), "think", "t"),
        (("tools", "system", "thinking"), "background", "b"),
    ],
)
def test_built_in_rules_go_in_their_order(left_out: tuple[str, ...], rule: str, target: str) -> None:
    found = route(ALL, facts_of(**{key: value for key, value in EVERYTHING.items() if key not in left_out}))
    assert (found.rule, found.model, found.requested) == (rule, target, "claude-haiku-4")
    assert (found.model, found.targets) == (target, ())


def test_a_rule_without_a_target_is_left_out() -> None:
    found = route(RouterSettings(default="d", subagent_tag=False), facts_of(**EVERYTHING))
    assert (found.rule, found.model, found.without_tag) == ("auto_map", "d", False)


def test_background_looks_at_the_name_that_the_client_sent() -> None:
    """Auto-mapping would have turned it into `d`, which no background pattern matches."""
    assert route(ALL, facts_of("claude-haiku-4")).model == "b"
    assert route(ALL, facts_of("claude-opus-4")).model == "d"
    assert route(ALL, facts_of("haiku")).model == "haiku"


def test_the_tag_is_removed_whichever_rule_wins() -> None:
    assert route(ALL, facts_of(**EVERYTHING)).without_tag
    assert route(ALL, facts_of(system=TAG)).without_tag
    assert not route(ALL, facts_of(system="plain")).without_tag


def test_adaptive_thinking_counts_only_if_so_wished() -> None:
    facts = facts_of("claude-opus-4", thinking={"type": "adaptive"})
    assert route(ALL, facts).rule == "auto_map"
    assert route(RouterSettings(think="t", think_adaptive=True), facts).rule == "think"


def test_auto_mapping_leaves_mapped_models_alone_only_if_so_wished() -> None:
    models = [model("claude-opus-4", "one:o")]
    turned = route(RouterSettings(default="d"), facts_of("claude-opus-4"), models)
    kept = route(RouterSettings(default="d", auto_map_defined=False), facts_of("claude-opus-4"), models)
    assert (turned.rule, kept.rule, kept.targets) == ("auto_map", "default", (MappedTarget("one", "o"),))
    assert (
        route(RouterSettings(auto_map_regex="."), facts_of("x")).rule == "default"
    )  # there is nothing to turn it into
    assert route(RouterSettings(default="d", auto_map_regex="^gpt-"), facts_of("gpt-5")).model == "d"


def test_a_mapped_model_goes_to_its_providers_in_their_order() -> None:
    found = route(RouterSettings(), facts_of("GLM"), MODELS)
    assert found.is_mapped
    assert found.targets == (MappedTarget("one", "glm-5"), MappedTarget("two", "z/glm-5"))


def test_a_target_of_a_format_that_is_translated_is_served_in_its_place() -> None:
    found = route(RouterSettings(), facts_of("translated"), MODELS)
    assert found.targets == (MappedTarget("chat", "b"), MappedTarget("two", "b"))


def test_unserved_targets_are_left_out_and_reported_if_none_remains() -> None:
    assert route(RouterSettings(), facts_of("mixed"), MODELS).targets == (MappedTarget("two", "b"),)
    told = refused(RouterSettings(), facts_of("dead"), MODELS)
    assert (told.status, told.kind, told.cause) == (503, "api_error", "no_provider")
    assert told.message == (
        "no provider serves model 'dead': off is not enabled; "
        "bare has the format openai but no base_url; gone is not declared; "
        "correct [[models]] or [[providers]] in config.toml"
    )


def test_an_unmapped_model_goes_to_the_default_providers_or_is_refused() -> None:
    found = route(RouterSettings(), facts_of("x"), MODELS)
    assert (found.is_mapped, found.model) == (False, "x")
    told = refused(RouterSettings(unmapped="reject"), facts_of("x"), MODELS)
    assert (told.status, told.cause) == (400, "unmapped_model")
    assert "'x'; it has glm, dead, translated, mixed; name one" in told.message
    long = refused(RouterSettings(unmapped="reject"), facts_of("x" * 500), [model(f"m{n}", "one:a") for n in range(50)])
    assert len(long.message) < 400


@pytest.mark.parametrize("body", [{}, {"model": 7}, {"model": None}])
def test_a_request_without_a_model_is_refused_where_models_route(body: dict[str, Any]) -> None:
    found = refused(ALL, facts_of(None, **body))
    assert (found.status, found.cause) == (400, "no_model")


def test_own_rules_come_first_and_the_first_of_them_wins() -> None:
    settings = RouterSettings(
        websearch="w",
        rules=(RuleSettings("big", "b", min_bytes=1000), RuleSettings("team", "t", headers=(("x-team", "^re"),))),
    )
    facts = facts_of(**EVERYTHING)
    team = [(b"x-team", b"research")]
    assert route(settings, facts, headers=team, size=1000).rule == "big"
    assert route(settings, facts, headers=team, size=999).rule == "team"
    assert route(settings, facts, headers=[(b"x-team", b"pre")]).rule == "websearch"


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        (RuleSettings("r", "m", keys=("laptop", "desk")), True),
        (RuleSettings("r", "m", keys=("desk",)), False),
        (RuleSettings("r", "m", requested="haiku"), True),
        (RuleSettings("r", "m", requested="^haiku"), False),
        (RuleSettings("r", "m", min_bytes=500), True),
        (RuleSettings("r", "m", min_bytes=501), False),
        (RuleSettings("r", "m", min_tokens=6), True),
        (RuleSettings("r", "m", min_tokens=1000), False),
        (RuleSettings("r", "m", max_bytes=500), True),
        (RuleSettings("r", "m", max_bytes=499), False),
        (RuleSettings("r", "m", headers=(("x-a", "2"),)), True),
        (RuleSettings("r", "m", headers=(("x-b", "ä"),)), True),
        (RuleSettings("r", "m", headers=(("x-a", "2"), ("x-c", "."))), False),
        (RuleSettings("r", "m", keys=("laptop",), requested="haiku", min_bytes=1, headers=(("x-a", "1"),)), True),
        (RuleSettings("r", "m", keys=("laptop",), requested="haiku", min_bytes=501, headers=(("x-a", "1"),)), False),
    ],
)
def test_a_rule_applies_when_all_its_conditions_are_met(rule: RuleSettings, *, applies: bool) -> None:
    headers = [(b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", "ä".encode())]
    found = route(RouterSettings(rules=(rule,)), facts_of(), headers=headers, key="laptop", size=500)
    assert (found.rule == "r") is applies


@pytest.mark.parametrize("more", [0, 1])
def test_a_rule_for_long_requests_applies_from_its_number_of_tokens_on(more: int) -> None:
    facts = facts_of()
    rule = RuleSettings("r", "m", min_tokens=facts.size.tokens() + more)
    assert route(RouterSettings(rules=(rule,)), facts).rule == ("default" if more else "r")


def test_every_name_that_a_client_can_mean_is_told_to_who_checks_rights() -> None:
    facts = facts_of("x", system=TAG)
    assert Router(ALL).named_by_client(facts) == ("x", "tagged")
    assert Router(RouterSettings(default="d", subagent_tag=False)).named_by_client(facts) == ("x",)


@pytest.mark.parametrize(
    ("models", "names"),
    [(["y", "z"], ("y", "z")), ([], ()), (None, ()), ("y", ("y",)), ([{"id": "y"}, 5], ("", "")), ({"y": 1}, ("",))],
)
def test_models_that_an_upstream_may_take_instead_are_names_too(models: object, names: tuple[str, ...]) -> None:
    assert Router(ALL).named_by_client(facts_of("x", models=models)) == ("x", *names)
    twice = scan([b'{"model": "x", "models": ["y"], "m\\u006fdels": ["z"]}'])
    assert isinstance(twice, BodyFacts)
    assert Router(ALL).named_by_client(twice) == ("x", "y", "z")


def test_a_list_of_models_without_end_is_too_complex() -> None:
    with pytest.raises(TooComplex):
        Router(ALL).named_by_client(facts_of("x", models=["y"] * 10_000))


@pytest.mark.parametrize(("count", "has_others"), [(12, False), (13, True)])
def test_a_refusal_shows_twelve_models_and_says_that_there_are_others(count: int, has_others: bool) -> None:  # noqa: FBT001
    models = [model(f"m{number}", "one:a") for number in range(count)]
    found = Router(RouterSettings(unmapped="reject"), models, PROVIDERS).named("x")
    assert isinstance(found, NoRoute)
    assert "m11" in found.message
    assert "m12" not in found.message
    assert ("m11, and others;" in found.message) is has_others


def test_a_model_that_is_named_without_a_body_has_no_tag_to_remove() -> None:
    found = Router(RouterSettings(subagent_tag=True), MODELS, PROVIDERS).named("glm")
    assert isinstance(found, Route)
    assert not found.without_tag
