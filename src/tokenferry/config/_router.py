import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from tokenferry.config._foreign import ignore
from tokenferry.providers import Provider, Table, pattern_fault
from tokenferry.settings import (
    ModelSettings,
    RouterSettings,
    RuleSettings,
)

_TARGETS: Final = ("default", "websearch", "think", "background")
_NOT_SET: Final = "placeholder-model"  # what claude-code-mux writes into a new file
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONDITIONS: Final = ("headers", "keys", "requested", "min_bytes", "max_bytes", "min_tokens")
_CREDENTIALS: Final = frozenset(("authorization", "x-api-key", "cookie", "x-tokenferry-key"))


def read_router(
    table: Table, gateway: Table, models: tuple[ModelSettings, ...], providers: Mapping[str, Provider]
) -> RouterSettings:
    """Read `[router]`. Its targets are names of `[[models]]`, or models of the default providers.

    Two of its keys may still be in `[gateway]`.
    """
    for key in ("account", "providers"):
        table.former(gateway, key, key)
    settings = replace(table.read(RouterSettings()), rules=_rules(table))
    if settings.default == _NOT_SET:
        table.note("default", f"is still {_NOT_SET}, as claude-code-mux wrote it, and counts as left out")
        settings = replace(settings, default=None)
    for name in settings.providers:
        if name not in providers:
            table.problem("providers", f"names {name!r}, which is not a provider; known: {', '.join(providers)}")
    ignore(table, ("prompt_rules",), instead="[[router.rules]] looks at headers, keys and sizes, not at prompts")
    ignore(table, ("subagent",))
    _check_targets(table, settings, models, providers)
    gateway.done()
    table.done()
    return settings


def _check_targets(
    table: Table, settings: RouterSettings, models: tuple[ModelSettings, ...], providers: Mapping[str, Provider]
) -> None:
    known = {model.name.casefold() for model in models}
    targets = [(key, getattr(settings, key)) for key in _TARGETS]
    targets += [(f"rules.{rule.name}.model", rule.model) for rule in settings.rules]
    for key, model in targets:
        if model is None or model.casefold() in known:
            continue
        if settings.unmapped == "reject":
            names = ", ".join(one.name for one in models) or "none"
            table.problem(key, f'names {model!r}, which no [[models]] names, and unmapped = "reject"; known: {names}')
        elif known:
            meant = f'; for the provider {model} write providers = ["{model}"]' if model in providers else ""
            table.note(
                key, f"names {model!r}, which no [[models]] names: the default providers are asked for it{meant}"
            )


def _rules(table: Table) -> tuple[RuleSettings, ...]:
    rules: list[RuleSettings] = []
    for place, one in enumerate(table.tables("rules"), 1):
        rule = _rule(one, place)
        if any(rule.name == other.name for other in rules):
            one.problem("name", "is taken by another rule")
        rules.append(rule)
    return tuple(rules)


def _rule(table: Table, place: int) -> RuleSettings:
    rule = table.read(RuleSettings(f"rule {place}", ""))
    if "model" not in table:
        table.problem("model", "is missing")
    if not any(key in table for key in _CONDITIONS):
        table.problem("model", f"needs a condition beside it: {', '.join(_CONDITIONS)}")
    _check_headers(table, rule.headers)
    table.done()
    return replace(rule, headers=tuple((name.lower(), pattern) for name, pattern in rule.headers))


def _check_headers(table: Table, headers: tuple[tuple[str, str], ...]) -> None:
    for name, pattern in headers:
        if not _HEADER.fullmatch(name):
            table.problem("headers", f"names {name!r}, which is not a header's name")
        elif name.lower() in _CREDENTIALS:
            table.problem("headers", f"must not look at {name}, which holds a credential; use keys")
        elif fault := pattern_fault(pattern):
            table.problem("headers", f"for {name} {fault}")
