from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from tokenferry.config import Config, examine
from tokenferry.settings import Home, ModelSettings, RouterSettings, RuleSettings

_KINDS: Final = {
    "default": "auto_map_regex finds the model's name",
    "background": "background_regex finds the model's name",
    "think": "extended thinking is asked for",
    "websearch": "a web search tool is given",
}


class RoutingRule(Struct, frozen=True):
    """A rule that routes requests to a model: each condition by its key, with its value."""

    name: str
    model: str
    conditions: tuple[tuple[str, str], ...]


class RoutingTable(Struct, frozen=True):
    """The routing in config.toml."""

    rules: tuple[RoutingRule, ...]
    """In their order."""
    models: tuple[ModelSettings, ...]
    router: RouterSettings
    problems: tuple[str, ...] = ()
    """Why the file can't be used; the rest is then empty."""


def routing_table(home: Home) -> RoutingTable:
    """Read it. Raises `ConfigError` for what is not valid TOML, `UnsafeFile`."""
    examined = examine(home.config, statement=home.statement)
    config = Config() if examined.faults else examined.config
    rules = [RoutingRule(rule.name, rule.model, tuple(_conditions(rule))) for rule in config.router.rules]
    for kind, condition in _KINDS.items():
        if model := getattr(config.router, kind):
            rules.append(RoutingRule(kind, model, ((condition, ""),)))
    return RoutingTable(tuple(rules), config.models, config.router, examined.problems)


def _conditions(rule: RuleSettings) -> Iterator[tuple[str, str]]:
    """Yield a rule's conditions, by the keys of `[[router.rules]]`."""
    for name in ("requested", "min_bytes", "max_bytes", "min_tokens"):
        if (value := getattr(rule, name)) is not None:
            yield name, str(value)
    if rule.keys:
        yield "keys", ", ".join(rule.keys)
    for name, pattern in rule.headers:
        yield f"header {name}", pattern
