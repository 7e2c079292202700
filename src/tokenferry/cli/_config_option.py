"""The option `--config` of every command that reads the configuration and has none of its own."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tokenferry.errors import ConfigError

VARIABLE: Final = "TOKENFERRY_CONFIG"
WITHOUT: Final = frozenset({"classify", "key", "sandbox", "seal", "service", "unseal", "why"})
"""The commands that read no configuration, or leave it to the service that they install."""


def _choose(context: typer.Context, path: Path | None) -> Path | None:
    """Let this command's `Home` name the file: what it calls and starts reads the same one."""
    if path is None or context.resilient_parsing:
        return path
    path = path.expanduser().absolute()
    if not path.exists():
        raise ConfigError(f"{path} not found; name an existing file with --config, or leave it out")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)

    def restore() -> None:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before

    context.call_on_close(restore)
    return path


def _options() -> list[Any]:
    app = typer.Typer(add_completion=False)

    @app.command()
    def command(
        *,
        config: Annotated[  # its parameter alone is of use
            Path | None,
            typer.Option(
                "--config",
                metavar="F",
                help="Read this instead of the home's config.toml.",
                callback=_choose,
                expose_value=False,
            ),
        ] = None,
    ) -> None: ...

    return [one for one in typer.main.get_command(app).params if one.name == "config"]


def add_config_option(command: Any) -> None:
    """Give a command, or each one of a group, the option if it has none."""
    for inner in getattr(command, "commands", {}).values():
        add_config_option(inner)
    if not hasattr(command, "commands") and all("--config" not in one.opts for one in command.params):
        command.params.extend(_options())
