from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from tokenferry.config._foreign import ignore
from tokenferry.config_key import keys_of
from tokenferry.providers import Provider, Table
from tokenferry.settings import ModelMapping, ModelSettings

_FOREIGN: Final = (
    "inject_continuation_prompt",
    "strip_beta_options",
    "strip_specific_beta",
    "strip_mid_conversation_system",
)
_NAME: Final = keys_of(ModelSettings)["name"]


def read_models(tables: Iterable[Table], providers: Mapping[str, Provider]) -> tuple[ModelSettings, ...]:
    """Read `[[models]]`, followed by models that providers list and that have no entry there."""
    models: dict[str, ModelSettings] = {}
    for table in tables:
        model = _model(table, providers)
        if model.name:
            if model.name.casefold() in models:
                table.problem("name", "is taken by another of [[models]]; case doesn't count")
            models[model.name.casefold()] = model
        table.done()
    implied: dict[str, list[str]] = {}
    for provider in providers.values():
        for name in provider.models:
            if name.casefold() not in models:
                implied.setdefault(name, []).append(provider.name)
    return (
        *models.values(),
        *(ModelSettings(name, tuple(ModelMapping(one, name) for one in who)) for name, who in implied.items()),
    )


def _model(table: Table, providers: Mapping[str, Provider]) -> ModelSettings:
    if isinstance(table.raw("name"), str) and table.raw("name"):
        table.path = f"models.{table.raw('name')}"
    name = table.get(_NAME, "")
    if "name" not in table:
        table.problem("name", "is missing")
    model = table.read(ModelSettings(name, ()), but=("name",))
    if "mappings" not in table:
        table.problem("mappings", "are missing; write [[models.mappings]] with a provider")
    mappings = [_mapping(one, name, providers) for one in table.tables("mappings")]
    return replace(model, mappings=tuple(sorted(mappings, key=lambda one: one.priority)))


def _mapping(table: Table, model: str, providers: Mapping[str, Provider]) -> ModelMapping:
    mapping = table.read(ModelMapping("", model))
    if "provider" not in table:
        table.problem("provider", "is missing")
    elif mapping.provider and mapping.provider not in providers:
        table.problem("provider", f"names {mapping.provider!r}, which is not a provider; known: {', '.join(providers)}")
    ignore(table, _FOREIGN)
    table.done()
    return mapping
