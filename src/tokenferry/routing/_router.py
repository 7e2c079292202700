"""Decides the model of a request by rules, and the providers that `[[models]]` names for it."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenferry.providers import Provider
from tokenferry.routing._loggable import TOKEN
from tokenferry.routing._scan import BodyFacts
from tokenferry.settings import ModelSettings, RouterSettings, RuleSettings

Header = tuple[bytes, bytes]

_MOST_SHOWN: Final = 12
_MOST_KNOWN: Final = 256


class MappedTarget(NamedTuple):
    """A provider, and its name for the model."""

    provider: str
    model: str
    max_output_tokens: int | None = None
    drop: tuple[str, ...] = ()
    efforts: tuple[str, ...] | None = None


class Route(msgspec.Struct, frozen=True, cache_hash=True):
    """The model of a request, the providers mapped to it, and the rule that decided."""

    requested: str | None
    """The client's name for the model."""
    model: str | None
    """The model to use: a name of `[[models]]`, or one for the default providers."""
    rule: str
    """The name of the rule in the configuration."""
    reason: str
    targets: tuple[MappedTarget, ...] = ()
    """The providers that `[[models]]` names, in order; empty for the default providers."""
    without_tag: bool = False
    """Whether to remove the sub-agent's tag from the body."""
    prefixed: MappedTarget | None = None
    """The provider that the name may begin with, and the rest of the name. `KeyView` decides whether it counts."""

    @property
    def is_mapped(self) -> bool:
        """Whether `[[models]]` names providers for it."""
        return bool(self.targets)


class NoRoute(Struct, frozen=True):
    """Why a request can't be routed: status and sentence for the client, and a code for the log."""

    status: int
    message: str
    cause: str
    kind: Literal["invalid_request_error", "api_error"] = "invalid_request_error"


class _Asked(msgspec.Struct, frozen=True):
    """The input of rules."""

    facts: BodyFacts
    headers: Sequence[Header]
    key: str | None
    size: int


class _Rule(NamedTuple):
    name: str
    applies: Callable[[_Asked], bool]
    model: Callable[[BodyFacts], str]
    reason: str


class Router:
    """Decides by settings only. It has no state except a cache, so threads may share it.

    Equal decisions give the same `Route` object while it is cached.
    """

    def __init__(
        self,
        settings: RouterSettings | None = None,
        models: Sequence[ModelSettings] = (),
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self._settings = settings = settings or RouterSettings()
        self.models = tuple(models)
        self.list_models = settings.list_models
        self._models = {model.name.casefold(): _served(model, providers or {}) for model in models}
        self._auto_map = re.compile(settings.auto_map_regex)
        self._rules = (*map(_own_rule, settings.rules), *_builtin_rules(settings))
        self._to = lru_cache(_MOST_KNOWN)(self._route_to)
        self._providers = (providers or {}).keys() if settings.provider_prefix else ()
        routes = replace(settings, account=None, providers=(), provider_prefix=True) != RouterSettings()
        self.is_configured = routes or bool(models)
        """Whether a rule or mapping is configured; if not, no body needs to be changed."""

    def route(
        self,
        facts: BodyFacts,
        *,
        headers: Sequence[Header] = (),
        key: str | None = None,
        size: int = 0,
    ) -> Route | NoRoute:
        """Decide the model, and the providers that `[[models]]` names for it.

        `key` is the client key's name, `size` the body's in bytes. Header names are in lower case.
        """
        requested = facts.model
        if not self.is_configured:
            return Route(requested, requested, "default", _KEEPS)
        if requested is None:
            return NoRoute(400, 'the request names no "model"; name one', "no_model")
        model, rule, reason = self._decide(_Asked(facts, headers, key, size), requested)
        without_tag = self._settings.subagent_tag and facts.tag is not None
        return self._to(model, requested, rule, reason, without_tag)

    def named(self, model: str) -> Route | NoRoute:
        """Give the route for a model without applying rules."""
        return self._to(model, model, "default", _KEEPS, False)

    def _route_to(self, model: str, requested: str, rule: str, reason: str, without_tag: bool) -> Route | NoRoute:  # noqa: FBT001  # positional for the cache
        targets = self._models.get(model.casefold())
        if isinstance(targets, NoRoute):
            return targets
        if targets is None and self._settings.unmapped == "reject":
            return self._refused(model)
        prefixed = self._prefixed(model) if targets is None else None
        return Route(requested, model, rule, reason, targets or (), without_tag, prefixed)

    def _prefixed(self, model: str) -> MappedTarget | None:
        provider, _, rest = model.partition("/")
        return MappedTarget(provider, rest) if rest and provider in self._providers else None

    def named_by_client(self, facts: BodyFacts) -> tuple[str | None, ...]:
        """Give every model that the client names: `model`, the fallbacks in `models`, and the tag's."""
        if self._settings.subagent_tag and facts.tag is not None:
            return (facts.model, *facts.stand_ins, facts.tag.model)
        return (facts.model, *facts.stand_ins)

    def _decide(self, asked: _Asked, requested: str) -> tuple[str, str, str]:
        """Give the model, the rule, and why it applied."""
        for rule in self._rules:
            if rule.applies(asked):
                return rule.model(asked.facts), rule.name, rule.reason
        settings = self._settings
        if (
            settings.default is not None
            and self._auto_map.search(requested) is not None
            and (settings.auto_map_defined or requested.casefold() not in self._models)
        ):
            return settings.default, "auto_map", _AUTO_MAPPED
        return requested, "default", _KEEPS

    def _refused(self, model: str) -> NoRoute:
        shown = ", ".join([model.name for model in self.models[:_MOST_SHOWN]]) or "none"
        more = ", and others" if len(self.models) > _MOST_SHOWN else ""
        return NoRoute(
            400,
            f"this gateway has no model {_shown(model)}; it has {shown}{more}; name one of these, or add yours "
            "under [[models]] in config.toml",
            "unmapped_model",
        )


def _shown(model: str) -> str:
    """Give a client's name for a model if it may be repeated and logged."""
    return repr(model) if _HARMLESS.fullmatch(model) and not TOKEN.search(model) else "of that name"


_HARMLESS: Final = re.compile(r"[A-Za-z0-9._:@/+\[\] -]{1,100}")
_KEEPS: Final = "no rule applied, so the model keeps its name"
_AUTO_MAPPED: Final = "no other rule applied, and auto_map_regex matched, so it is router.default"


def _served(model: ModelSettings, providers: Mapping[str, Provider]) -> tuple[MappedTarget, ...] | NoRoute:
    """Give the targets of a model. Those that can't serve are left out."""
    targets = []
    left_out = []
    for mapping in model.mappings:
        provider = providers.get(mapping.provider)
        if provider is None:
            left_out.append(f"{mapping.provider} is not declared")
        elif not provider.enabled:
            left_out.append(f"{mapping.provider} is not enabled")
        elif not provider.serves_mapped:
            left_out.append(f"{mapping.provider} has the format {provider.wire_format} but no base_url")
        else:
            targets.append(
                MappedTarget(
                    mapping.provider, mapping.actual_model, mapping.max_output_tokens, mapping.drop, mapping.efforts
                )
            )
    if targets:
        return tuple(targets)
    why = "; ".join(left_out) or "it has no mappings"
    message = f"no provider serves model {model.name!r}: {why}; correct [[models]] or [[providers]] in config.toml"
    return NoRoute(503, message, "no_provider", "api_error")


def _builtin_rules(settings: RouterSettings) -> list[_Rule]:
    """Give the rules that `[router]` enables, in order."""
    rules = []
    if settings.websearch is not None:
        rules.append(
            _Rule("websearch", lambda asked: asked.facts.web_search, _always(settings.websearch), "a web_search tool")
        )
    if settings.subagent_tag:
        rules.append(
            _Rule(
                "subagent",
                lambda asked: asked.facts.tag is not None,
                _tagged,
                "a CCM-SUBAGENT-MODEL tag in the system prompt names the model",
            )
        )
    if settings.think is not None:
        kinds = ("enabled", "adaptive") if settings.think_adaptive else ("enabled",)
        rules.append(
            _Rule(
                "think",
                lambda asked: asked.facts.thinking in kinds,
                _always(settings.think),
                f"thinking.type is {' or '.join(kinds)}",
            )
        )
    if settings.background is not None:
        pattern = re.compile(settings.background_regex)
        rules.append(
            _Rule(
                "background",
                lambda asked: pattern.search(asked.facts.model or "") is not None,
                _always(settings.background),
                "background_regex matches the requested model",
            )
        )
    return rules


def _own_rule(rule: RuleSettings) -> _Rule:
    headers = [(name.encode("ascii"), re.compile(pattern.encode("utf-8"))) for name, pattern in rule.headers]
    requested = None if rule.requested is None else re.compile(rule.requested)

    def applies(asked: _Asked) -> bool:
        if rule.min_bytes is not None and asked.size < rule.min_bytes:
            return False
        if rule.max_bytes is not None and asked.size > rule.max_bytes:
            return False
        if rule.min_tokens is not None and asked.facts.size.tokens() < rule.min_tokens:
            return False
        if rule.keys and asked.key not in rule.keys:
            return False
        if requested is not None and requested.search(asked.facts.model or "") is None:
            return False
        return all(any(name == own and found.search(value) for name, value in asked.headers) for own, found in headers)

    return _Rule(rule.name, applies, _always(rule.model), "all conditions of this rule in [[router.rules]] are met")


def _always(model: str) -> Callable[[BodyFacts], str]:
    return lambda _facts: model


def _tagged(facts: BodyFacts) -> str:
    assert facts.tag is not None
    return facts.tag.model
