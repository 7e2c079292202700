import re
from typing import Final

from tokenferry.config._foreign import ignore
from tokenferry.providers import Table, pattern_fault
from tokenferry.settings import (
    AUTO_MAP_REGEX,
    BACKGROUND_REGEX,
    ModelSettings,
    RouterSettings,
    RuleSettings,
)

_TARGETS: Final = ("default", "websearch", "think", "background")
_NOT_SET: Final = "placeholder-model"  # what claude-code-mux writes into a new file
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BYTES: Final = 2**40
_CREDENTIALS: Final = frozenset(("authorization", "x-api-key", "cookie", "x-tokenferry-key"))


def read_router(table: Table, models: tuple[ModelSettings, ...], notes: list[str]) -> RouterSettings:
    """Read `[router]`, whose targets are names of `[[models]]` or what the default providers call their models."""
    targets = {key: table.text_or_none(key) for key in _TARGETS}
    if targets["default"] == _NOT_SET:
        notes.append(f"router.default is still {_NOT_SET}, as claude-code-mux wrote it, and counts as left out")
        targets["default"] = None
    settings = RouterSettings(
        **targets,
        auto_map_regex=table.pattern("auto_map_regex", AUTO_MAP_REGEX),
        auto_map_defined=table.flag("auto_map_defined", True),
        background_regex=table.pattern("background_regex", BACKGROUND_REGEX),
        think_adaptive=table.flag("think_adaptive", False),
        subagent_tag=table.flag("subagent_tag", True),
        unmapped=table.choice("unmapped", "default", ("default", "refuse")),
        list_models=table.choice("list_models", "beside", ("beside", "only", "upstream")),
        rules=_rules(table),
    )
    ignore(table, ("prompt_rules",), notes, instead="[[router.rules]] looks at headers, keys and sizes, not at prompts")
    ignore(table, ("subagent",), notes)
    _check_targets(table, settings, models, notes)
    table.done()
    return settings


def _check_targets(table: Table, settings: RouterSettings, models: tuple[ModelSettings, ...], notes: list[str]) -> None:
    known = {model.name.casefold() for model in models}
    targets = [(key, getattr(settings, key)) for key in _TARGETS]
    targets += [(f"rules.{rule.name}.model", rule.model) for rule in settings.rules]
    for key, model in targets:
        if model is None or model.casefold() in known:
            continue
        if settings.unmapped == "refuse":
            names = ", ".join(one.name for one in models) or "none"
            table.problem(key, f'names {model!r}, which no [[models]] names, and unmapped = "refuse"; known: {names}')
        elif known:
            notes.append(
                f"router.{key} names {model!r}, which no [[models]] names: the default providers are asked for it"
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
    conditions = ("headers", "keys", "requested", "at_least", "at_most")
    model = table.text("model")
    if "model" not in table:
        table.problem("model", "is missing")
    if not any(key in table for key in conditions):
        table.problem("model", f"needs a condition beside it: {', '.join(conditions)}")
    rule = RuleSettings(
        name=table.text("name", f"rule {place}") or f"rule {place}",
        model=model or "",
        headers=_headers(table),
        keys=table.texts("keys", ()),
        requested=table.pattern("requested", "") or None,
        at_least=table.whole("at_least", None, least=0, most=_BYTES),
        at_most=table.whole("at_most", None, least=0, most=_BYTES),
    )
    table.done()
    return rule


def _headers(table: Table) -> tuple[tuple[str, str], ...]:
    headers = table.strings("headers", ())
    for name, pattern in headers:
        if not _HEADER.fullmatch(name):
            table.problem("headers", f"names {name!r}, which is no header's name")
        elif name.lower() in _CREDENTIALS:
            table.problem("headers", f"must not look at {name}, which holds a credential; use keys")
        elif fault := pattern_fault(pattern):
            table.problem("headers", f"for {name} {fault}")
    return tuple((name.lower(), pattern) for name, pattern in headers)
