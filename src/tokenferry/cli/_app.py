"""The commands, each imported when it is first asked for."""

import logging
from difflib import get_close_matches
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tokenferry.cli._config_option import WITHOUT, add_config_option
from tokenferry.cli._logs import set_level
from tokenferry.cli._output import say
from tokenferry.cli._typer import SETTINGS, examples

_COMMANDS: Final = (
    "accounts",
    "use",
    "token",
    "login",
    "logout",
    "refresh",
    "swap",
    "import",
    "export",
    "run",
    "serve",
    "key",
    "config",
    "providers",
    "policy",
    "seal",
    "unseal",
    "publish",
    "unpublish",
    "keep",
    "service",
    "setup",
    "status",
    "explain",
    "why",
    "route",
    "cooldowns",
    "classify",
    "doctor",
    "sandbox",
)


class _Commands(TyperGroup):
    """Finds a command in the module of its name: `tokenferry token` need not import what `serve` needs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature is the library's
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            module = import_module(f"tokenferry.cli.{cmd_name}{'_' if iskeyword(cmd_name) else ''}")
            command = typer.main.get_command(module.app)
            if cmd_name not in WITHOUT:
                add_config_option(command)
            self.add_command(command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in _COMMANDS and not ctx.resilient_parsing:
            near = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_COMMANDS)}"
            ctx.fail(f"There is no command {args[0][:80]!r}; {hint}")
        return super().resolve_command(ctx, args)


app: Final = typer.Typer(
    cls=_Commands,
    # No pretty tracebacks: they show the locals of every frame.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # the signature is the library's
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # 60 ms for this alone

        try:
            say(f"tokenferry {version('tokenferry')}")
        except PackageNotFoundError:
            say("tokenferry (run from its source)")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "tokenferry accounts add work          store a key or login, read from stdin or a hidden prompt",
        "tokenferry token work                 print a token that works",
        "tokenferry run -- claude              start a program that needs no key of its own",
        "tokenferry serve                      run the gateway",
    ),
)
def begin(
    context: typer.Context,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Log in once; every program on the machine gets a token that works.

    Without a command it says how things stand and what to do next. TOKENFERRY_HOME names the folder of all that is
    kept (~/.config/tokenferry by default), TOKENFERRY_ACCOUNT the account that is meant where none is named.
    """
    if verbose:
        set_level(logging.DEBUG)
    if context.invoked_subcommand is None:
        import_module("tokenferry.cli._welcome").welcome()
