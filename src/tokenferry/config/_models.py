from collections.abc import Iterable, Mapping

from tokenferry.config._foreign import ignore
from tokenferry.providers import Provider, Table
from tokenferry.settings import ModelMapping, ModelSettings

_LOWEST_PRIORITY = 2**32 - 1
_FOREIGN = ("inject_continuation_prompt", "strip_beta_options", "strip_specific_beta", "strip_mid_conversation_system")


def read_models(
    tables: Iterable[Table], providers: Mapping[str, Provider], listed: Mapping[str, tuple[str, ...]], notes: list[str]
) -> tuple[ModelSettings, ...]:
    """Read `[[models]]`. `listed` are the models that providers list themselves, for names that none of them has."""
    models: dict[str, ModelSettings] = {}
    for table in tables:
        model = _model(table, providers, notes)
        if model is not None:
            if model.name.casefold() in models:
                table.problem("name", "is taken by another of [[models]]; case doesn't count")
            models[model.name.casefold()] = model
        table.done()
    implied: dict[str, list[str]] = {}
    for provider, names in listed.items():
        for name in names:
            if name.casefold() not in models:
                implied.setdefault(name, []).append(provider)
    return (
        *models.values(),
        *(ModelSettings(name, tuple(ModelMapping(one, name) for one in who)) for name, who in implied.items()),
    )


def _model(table: Table, providers: Mapping[str, Provider], notes: list[str]) -> ModelSettings | None:
    name = table.text("name")
    if name is not None:
        table.path = f"models.{name}"
    elif "name" not in table:
        table.problem("name", "is missing")
    display_name = table.text("display_name")
    mappings = [
        (priority, mapping)
        for one in table.tables("mappings")
        for priority, mapping in [_mapping(one, name or "", providers, notes)]
        if mapping is not None
    ]
    if "mappings" not in table:
        table.problem("mappings", "are missing; write [[models.mappings]] with a provider")
    mappings.sort(key=lambda item: item[0])
    return None if name is None else ModelSettings(name, tuple(one for _, one in mappings), display_name)


def _mapping(
    table: Table, model: str, providers: Mapping[str, Provider], notes: list[str]
) -> tuple[int, ModelMapping | None]:
    provider = table.text("provider")
    if "provider" not in table:
        table.problem("provider", "is missing")
    elif provider is not None and provider not in providers:
        table.problem("provider", f"names {provider!r}, which is no provider; known: {', '.join(providers)}")
    actual = table.text("actual_model", model)
    priority = table.whole("priority", 1, least=0, most=_LOWEST_PRIORITY)
    ignore(table, _FOREIGN, notes)
    table.done()
    return priority or 0, None if provider is None or actual is None else ModelMapping(provider, actual)
