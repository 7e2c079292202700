"""The options `--home` and `--config`, before and after a command's name."""

import os
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from tokenferry.errors import ConfigError

_HOME: Final = "TOKENFERRY_HOME"
_CONFIG: Final = "TOKENFERRY_CONFIG"


def _set(context: typer.Context, variable: str, path: Path) -> None:
    """Set the variable, so that this command's `Home` and every process that it starts use the path."""
    before = os.environ.get(variable)
    os.environ[variable] = str(path)

    def restore() -> None:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before

    context.call_on_close(restore)


def _set_home(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        _set(context, _HOME, path.expanduser().absolute())
    return path


def _set_config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        path = path.expanduser().absolute()
        if not path.exists():
            raise ConfigError(f"{path} not found; name an existing file with --config, or leave it out")
    if path is not None:
        _set(context, _CONFIG, path)
    return path


ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration file; by default the home's config.toml.",
        callback=_set_config,
    ),
]
HomeFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="The folder for all of tokenferry's files.", callback=_set_home),
]


def _options() -> list[Any]:
    app = typer.Typer(add_completion=False)

    @app.command()
    def command(*, _config: ConfigFile = None, _home: HomeFolder = None) -> None: ...

    found: list[Any] = [one for one in typer.main.get_command(app).params if {"--config", "--home"} & {*one.opts}]
    for one in found:
        one.hidden, one.expose_value = True, False
    return found


def add_place_options(command: Any) -> None:
    """Add the options to a command, or to each command of a group."""
    for inner in getattr(command, "commands", {}).values():
        add_place_options(inner)
    if not hasattr(command, "commands"):
        present = {option for one in command.params for option in one.opts}
        command.params.extend(one for one in _options() if present.isdisjoint(one.opts))
