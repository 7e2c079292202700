"""Files of claude-code-mux's shape load as they are, and route as its documentation says."""

import json
from pathlib import Path
from typing import Any

import pytest

from config.written import Write, notes
from tokenferry.config import Config
from tokenferry.providers import builtin_providers
from tokenferry.routing import BodyFacts, MappedTarget, NoRoute, Route, Router, scan
from tokenferry.settings import RouterSettings

FILES = Path(__file__).with_name("ccm")
KEYS = dict.fromkeys(("ZAI_KEY", "KIMI_KEY", "OPENAI_KEY"), "sk-key") | {
    "OPENROUTER_KEY": "sk-or-v1-key",
    "ANTHROPIC_KEY": "sk-ant-api03-key",
}


def loaded(write: Write, name: str) -> Config:
    return write((FILES / f"{name}.toml").read_bytes(), KEYS)


def routed(config: Config, **body: Any) -> Route | NoRoute:
    facts = scan([json.dumps(body).encode()])
    assert isinstance(facts, BodyFacts)
    return Router(config.router, config.models, config.providers).route(facts)


def went(config: Config, **body: Any) -> tuple[str, str | None, list[str]]:
    route = routed(config, **body)
    assert isinstance(route, Route), route
    return route.rule, route.model, [f"{hop.provider}: {hop.model}" for hop in route.targets]


def test_its_example_loads_with_no_more_than_a_word_on_a_name(write: Write) -> None:
    config = loaded(write, "coding-plan")
    assert notes(config) == ["providers.zai plan.api_key makes the account zai-plan"]
    assert set(config.keys) == {"zai plan", "openrouter", "kimi"}
    urls = {name: one.base_url for name, one in config.providers.items() if name not in builtin_providers()}
    assert urls == {
        "zai plan": "https://api.z.ai/api/anthropic",
        "openrouter": "https://openrouter.ai/api",
        "kimi": "https://api.kimi.com/coding",
    }
    assert (config.server.host, config.server.port, config.log.level) == ("127.0.0.1", 13456, "info")
    assert (config.upstream.connect_timeout, config.upstream.response_timeout) == (10, 600)


GLM = ["zai plan: glm-4.6", "openrouter: z-ai/glm-4.6"]
AIR = ["zai plan: glm-4.5-air", "openrouter: z-ai/glm-4.5-air"]
KIMI = ["kimi: kimi-for-coding"]
SEARCH = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
TAG = {
    "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "<CCM-SUBAGENT-MODEL>kimi</CCM-SUBAGENT-MODEL>"}]
}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "claude-4-5-haiku", **SEARCH}, ("websearch", "glm-4.6", GLM)),
        ({"model": "claude-4-5-haiku"}, ("background", "air", AIR)),
        ({"model": "claude-4-5-sonnet", **THINK}, ("think", "kimi", KIMI)),
        ({"model": "claude-4-5-sonnet"}, ("auto_map", "glm-4.6", GLM)),
        ({"model": "air"}, ("default", "air", AIR)),
        ({"model": "claude-4-5-sonnet", **SEARCH, **TAG, **THINK}, ("websearch", "glm-4.6", GLM)),
        ({"model": "claude-4-5-haiku", **TAG, **THINK}, ("subagent", "kimi", KIMI)),
        ({"model": "claude-4-5-haiku", **THINK}, ("think", "kimi", KIMI)),
        ({"model": "claude-4-5-sonnet", "thinking": {"type": "disabled"}}, ("auto_map", "glm-4.6", GLM)),
        ({"model": "claude-4-5-sonnet", "thinking": {"type": "adaptive"}}, ("auto_map", "glm-4.6", GLM)),
        ({"model": "Claude-3-HAIKU"}, ("background", "air", AIR)),
        ({"model": "GLM-4.6"}, ("default", "GLM-4.6", GLM)),
    ],
)
def test_its_example_routes_as_its_readme_says(
    write: Write, body: dict[str, Any], expected: tuple[str, str, list[str]]
) -> None:
    """websearch, sub-agent, think, background, then auto-mapping, whose pattern without one is `^claude-`."""
    assert went(loaded(write, "coding-plan"), **body) == expected


def test_what_has_no_meaning_here_is_said_and_no_fault(write: Write) -> None:
    config = loaded(write, "fallbacks")
    effect = "is a key of claude-code-mux that has no effect here"
    assert notes(config) == [
        f"models.GLM-4.6.mappings[1].inject_continuation_prompt {effect}",
        f"server.api_key {effect}; make keys for clients with: tokenferry key create NAME",
        f"router.prompt_rules {effect}; [[router.rules]] looks at headers, keys and sizes, not at prompts",
    ]
    assert config.log.level == "warning"
    assert (config.upstream.connect_timeout, config.upstream.response_timeout) == (10, 30)


def test_models_of_every_format_are_served_and_unknown_ones_refused_with_the_reason(write: Write) -> None:
    config = loaded(write, "fallbacks")
    sonnet = (MappedTarget("claude-oauth", "claude-sonnet-4-5"), MappedTarget("anthropic-native", "claude-sonnet-4-5"))
    route = routed(config, model="claude-opus-9")
    assert isinstance(route, Route)
    assert (route.rule, route.targets) == ("auto_map", sonnet)
    gpt, glm, gemini = (routed(config, model=model) for model in ("gpt", "glm-4.6", "gemini-pro"))
    assert isinstance(gpt, Route)
    assert gpt.targets == (MappedTarget("openai", "gpt-5.1"),)
    assert isinstance(glm, NoRoute)
    assert "cerebras1 is not enabled" in glm.message
    assert isinstance(gemini, Route)
    assert [target.provider for target in gemini.targets] == ["vertex"]
    assert config.providers["vertex"].base_url == (
        "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1"
    )


def test_a_file_as_it_writes_it_routes_nothing_yet(write: Write) -> None:
    config = loaded(write, "new")
    assert config.router == RouterSettings()
    assert notes(config) == [
        "router.default is still placeholder-model, as claude-code-mux wrote it, and counts as left out"
    ]
    assert went(config, model="claude-x") == ("default", "claude-x", [])
