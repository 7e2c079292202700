"""The command tree. Each command's module is imported on first use."""

import gc
import logging
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any, Final

import typer

from tokenferry import __version__
from tokenferry.cli._logs import set_level
from tokenferry.cli._output import say
from tokenferry.cli._places import ConfigFile, HomeFolder, add_place_options
from tokenferry.cli._spelling import current
from tokenferry.cli._typer import SETTINGS, Group, spare_conversions

PANELS: Final = {
    "Start here": {
        "setup": "Find your keys and logins; connect claude-code, opencode, …",
        "demo": "Watch a refresh race, a limit and a failover; no account needed",
        "run": "Run a program through a private gateway: run -- claude",
        "serve": "Run the gateway (--detach)",
        "stop": "Stop the gateway after its requests have finished",
        "status": "Show accounts, gateway and what needs your attention",
        "dashboard": "Open the dashboard in your browser",
    },
    "Accounts": {
        "login": "Log in by browser, device code or pasted code",
        "logout": "Revoke a login at its provider and remove the account",
        "account": "add, list, show, check, set, pause, resume, remove",
        "use": "Prefer an account, here and in running gateways",
        "token": "Print a working token or key, and nothing else",
        "refresh": "Refresh a token now, or those that are due (--due, --watch)",
        "import": "Import keys and logins of other tools",
        "export": "Write an account's credential for another tool",
        "profile": "publish, list, unpublish: SDK profiles that stay fresh",
    },
    "Gateway": {
        "provider": "add, list, show, remove: upstreams and presets",
        "model": "list, add, remove: the names that clients can ask for",
        "key": "create, list, show, set, rename, revoke, prune",
        "usage": "daily, weekly, monthly, session, blocks; reprice",
        "cooldown": "list, clear",
    },
    "Claude Code": {
        "claude-code": "attach, switch, status, statusline",
    },
    "Diagnose": {
        "doctor": "Find problems; print the command that fixes each",
        "explain": "request [ID], route, response FILE, credentials, account NAME",
    },
    "Maintain": {
        "config": "check, show, get, set, unset, edit, init, schema",
        "policy": "show, set: what Claude subscriptions may be used for",
        "encryption": "status, enable, disable, rotate-key",
        "service": "install, status, uninstall",
        "store": "init, upgrade, status, migrate, forget-host: PostgreSQL",
        "sandbox": "Run a fake provider for tests",
    },
}
"""The help of `tokenferry`, kept here so that it needs no import of the commands."""

_MEANT: Final = {
    "start": "serve",
    "up": "serve",
    "gateway": "serve",
    "down": "stop",
    "ps": "status",
    "ui": "dashboard",
    "open": "dashboard",
    "web": "dashboard",
    "whoami": "status",
    "init": "setup",
    "connect": "setup",
    "claude": "run -- claude",
    "cost": "usage daily",
    "logs": "explain request",
    "requests": "explain request",
    "last": "explain request last",
    "switch": "claude-code switch",
    "version": "--version",
}
"""Words that people try first, and the command that does the same here."""

COMMANDS: Final = tuple(name for panel in PANELS.values() for name in panel)


class _Commands(Group):
    """Imports the module of a command on first use: `tokenferry token` must not pay for what `serve` imports."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature is the library's
        return [*COMMANDS, "help"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.list_commands(ctx) and cmd_name not in self.commands:
            name = cmd_name.replace("-", "_")
            module = import_module(f"tokenferry.cli.{name}{'_' if iskeyword(name) else ''}")
            gc.freeze()  # imported objects live until the end: see `entry`
            gc.enable()
            command = typer.main.get_command(module.app)
            add_place_options(command)
            spare_conversions(command)
            self.add_command(command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if ctx.resilient_parsing else current(args))

    def meant(self, word: str, known: list[str]) -> list[str]:
        """Suggest the command in `_MEANT`, else every group's subcommand of that name, else the nearest name."""
        if word in _MEANT:
            return [_MEANT[word]]
        groups = {name: text.partition(":")[0] for panel in PANELS.values() for name, text in panel.items()}
        inner = [f"{name} {word}" for name, text in groups.items() if text[0].islower() and word in text.split(", ")]
        return inner or super().meant(word, known)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # as above
        width = max(map(len, COMMANDS))
        for panel, commands in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(width), sentence) for name, sentence in commands.items()])


app: Final = typer.Typer(
    cls=_Commands,
    # No pretty tracebacks: they show the locals of every frame.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # the signature is the library's
    if wanted:
        say(f"tokenferry {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    options_metavar="[OPTIONS]",
    subcommand_metavar="COMMAND",
    epilog="\b\nGet started: tokenferry setup\n"
    "More: tokenferry help TOPIC (exit codes, variables, files: help reference)",
)
def begin(
    context: typer.Context,
    *,
    _config: ConfigFile = None,
    _home: HomeFolder = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Write a detailed log to stderr.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Log in once. Every AI tool on this machine keeps working."""
    if verbose:
        set_level(logging.DEBUG)
    if context.invoked_subcommand is None:
        import_module("tokenferry.cli._welcome").welcome()
