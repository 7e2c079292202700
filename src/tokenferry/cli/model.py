from typing import Annotated

import typer

from tokenferry.audit import note_change
from tokenferry.broker import settle_default_provider
from tokenferry.cli._complete import ModelName
from tokenferry.cli._config_lists import edit_config
from tokenferry.cli._home import find
from tokenferry.cli._output import note, outcome_json, say, say_json
from tokenferry.cli._table import Column, table
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import with_model, without_entry
from tokenferry.errors import UnknownName, UsageError
from tokenferry.settings import ModelMapping, ModelSettings

app = new_app(
    "List, add and remove the names that clients can ask for.",
    "tokenferry model list",
    "tokenferry model add fast z.ai/glm-5 anthropic/claude-haiku-4-5",
)


@app.command("list", epilog=examples("tokenferry model list", "tokenferry model list --json | jq -r '.[].name'"))
def list_(*, as_json: JSON = False) -> None:
    """List the mapped names, each with its targets in order."""
    _, config = find()
    if as_json:
        say_json([_to_json(one) for one in config.models])
    elif config.models:
        table(
            (Column("name"), Column("served by", folds=True)),
            [(one.name, ", ".join(map(_text, one.mappings))) for one in config.models],
        )
    else:
        note("no name is mapped; map one with: tokenferry model add NAME PROVIDER/MODEL")


@app.command(
    "add",
    epilog=examples(
        "tokenferry model add fast z.ai/glm-5",
        "tokenferry model add fast z.ai/glm-5 anthropic/claude-haiku-4-5    with a fallback",
    ),
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that clients ask for.", show_default=False)],
    targets: Annotated[
        list[str],
        typer.Argument(metavar="PROVIDER/MODEL...", help="A provider and its model.", show_default=False),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Map a model name to providers' models, in config.toml; running gateways follow within a second.

    The first target that can serve a request gets it. The file's comments stay as they are.
    """
    home, config = find()
    if any(one.name.casefold() == name.casefold() for one in config.models):
        raise UsageError(f"model {name!r} is already mapped; remove it first with: tokenferry model remove {name}")
    model = ModelSettings(name, tuple(map(_mapping, targets)))
    settle_default_provider(home, config)
    edit_config(home, lambda content, path: with_model(content, path, name, model.mappings))
    note_change(home, "model.add", name, mappings=", ".join(map(_text, model.mappings)))
    if as_json:
        say_json(_to_json(model))
    else:
        say(f"mapped {name} to {', '.join(map(_text, model.mappings))} in {home.config}")


@app.command("remove", epilog=examples("tokenferry model remove fast"))
def remove(name: ModelName, *, as_json: JSON = False) -> None:
    """Remove a mapped name from config.toml; running gateways follow within a second."""
    home, config = find()
    if name.casefold() not in {one.name.casefold() for one in config.models}:
        raise UnknownName.among("model", name, [one.name for one in config.models], "tokenferry model list")
    edit_config(home, lambda content, path: without_entry(content, path, "models", name))
    note_change(home, "model.remove", name)
    with outcome_json(wanted=as_json) as document:
        say(f"removed model {name} from {home.config}")
        document |= {"removed": name}


def _mapping(target: str) -> ModelMapping:
    provider, slash, model = target.partition("/")
    if not (provider and slash and model):
        raise UsageError(f"{target[:80]!r} names no provider and model; write it as PROVIDER/MODEL")
    return ModelMapping(provider, model)


def _text(mapping: ModelMapping) -> str:
    return f"{mapping.provider}/{mapping.actual_model}"


def _to_json(model: ModelSettings) -> dict[str, object]:
    listed = [{"provider": one.provider, "actual_model": one.actual_model} for one in model.mappings]
    return {"name": model.name, "mappings": listed}
