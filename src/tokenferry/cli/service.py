import os
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from tokenferry.background_refresh import renewer_of
from tokenferry.cli._diff import say_diff
from tokenferry.cli._home import find
from tokenferry.cli._output import note, outcome_json, say, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import Config
from tokenferry.errors import ConfigError, UsageError
from tokenferry.service import InstallPlan, Manager, Program, Service, Undone, manager_here, own_command, passed_on
from tokenferry.settings import Home

app = new_app(
    "Run tokenferry as a service, which keeps logins alive.",
    "tokenferry service install",
    "tokenferry service status",
)

_WATCHING: Final = (("refresh", "--watch"), ("refresh", "--watch", "--switch-claude-code"))

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]


@app.callback()
def begin() -> None:
    """Run tokenferry as a service that refreshes logins."""


@app.command(
    "install",
    epilog=examples(
        "tokenferry service install",
        "tokenferry service install --serve      the gateway, which also refreshes logins",
        "tokenferry service install --switch-claude-code",
        "tokenferry service install --dry-run",
    ),
)
def install(
    *,
    serve: Annotated[
        bool, typer.Option("--serve", help="Run `tokenferry serve` instead of `tokenferry refresh --watch`.")
    ] = False,
    switch_claude_code: Annotated[
        bool,
        typer.Option("--switch-claude-code", help="Give Claude Code the next account when the one it has is limited."),
    ] = False,
    dry_run: DryRun = False,
    as_json: JSON = False,
) -> int:
    """Run `tokenferry refresh --watch` as a service: a systemd user unit or a launchd agent.

    It starts now and at each login. The command shows the file that it writes, which holds no secret. A file that
    tokenferry didn't write is left alone. If the service manager can't be reached, the command writes the file, shows
    the commands to type, and exits with 1.
    """
    if serve and switch_claude_code:
        raise UsageError(
            "--switch-claude-code is for `refresh --watch`, and a gateway fails over; leave one of them out"
        )
    home, config = find()
    manager = _manager()
    service = Service(manager)
    plan = service.plan_install(_program(home, *(("serve",) if serve else _WATCHING[switch_claude_code])))
    for line in _remarks(config, serve=serve):
        note(line)
    with outcome_json(wanted=as_json) as document:
        document |= {"manager": manager.name, "path": str(plan.path), "changed": False, "running": True, "to_run": []}
        if not plan.changes_file and not plan.then:
            say(f"the service runs already, as {plan.path} says")
            return 0
        undone = _carry_out(service, plan, dry_run=dry_run, shows=not as_json)
        document |= {"changed": plan.changes_file and not dry_run, "running": undone is None and not dry_run}
        document["to_run"] = _commands(plan, undone, dry_run=dry_run)
        if undone is not None:
            return _say_undone(manager, undone, shows=not as_json)
        if not dry_run:
            say("the service runs")
            note(manager.advice())
        return 0


@app.command("uninstall", epilog=examples("tokenferry service uninstall", "tokenferry service uninstall --dry-run"))
def uninstall(*, dry_run: DryRun = False) -> int:
    """Stop the service, and remove its file."""
    manager = _manager()
    service = Service(manager)
    plan = service.plan_uninstall()
    if not plan.changes_file:
        say(f"no service is installed in {plan.path}")
        return 0
    undone = _carry_out(service, plan, dry_run=dry_run)
    return 0 if undone is None else _say_undone(manager, undone)


@app.command("status", epilog=examples("tokenferry service status", "tokenferry service status --json | jq .running"))
def status(*, as_json: JSON = False) -> int:
    """Show whether the service is installed and runs, and which process refreshes logins.

    The exit code is 0 if the service runs, else 1.
    """
    home, _ = find()
    manager = _manager()
    found = Service(manager).status([_program(home, *words) for words in (("serve",), *_WATCHING)])
    renewer = renewer_of(home)
    if as_json:
        say_json(
            {
                "manager": manager.name,
                "path": str(manager.path),
                "installed": found.is_installed,
                "current": found.is_current,
                "enabled": found.state.enabled,
                "active": found.state.active,
                "running": found.state.is_running,
                "renewer": renewer,
            }
        )
    else:
        how = "up to date" if found.is_current else "outdated; run: tokenferry service install"
        missing = "no; install it with: tokenferry service install"
        installed = f"{manager.path}, {how}" if found.is_installed else missing
        words = f"{found.state.enabled or 'no answer'}, {found.state.active or 'unknown state'}"
        say_lines(
            (
                f"installed  {installed}",
                f"{manager.name:<10} {words}",
                f"renewer    {renewer or 'none'}",
            )
        )
    return 0 if found.is_installed and found.state.is_running else 1


def _carry_out(service: Service, plan: InstallPlan, *, dry_run: bool, shows: bool = True) -> Undone | None:
    """Show what is done if `shows`, and do it unless it is a dry run."""
    if plan.changes_file and shows:
        say_diff(plan.diff())
    if dry_run:
        for command in _commands(plan, None, dry_run=True) if shows else ():
            say(f"would run: {command}")
        return None
    undone = service.carry_out(plan)
    if plan.changes_file:
        say(f"{'removed' if plan.after is None else 'wrote'} {plan.path}")
    return undone


def _commands(plan: InstallPlan, undone: Undone | None, *, dry_run: bool) -> list[str]:
    """The commands that were not run, quoted for a shell."""
    left = [step.command for step in (*plan.first, *plan.then)] if dry_run else undone.commands if undone else ()
    return [shlex.join(command) for command in left]


def _manager() -> Manager:
    try:
        return manager_here(os.environ, Path.home())
    except RuntimeError:
        raise ConfigError("no home directory is known here; set HOME") from None


def _say_undone(manager: Manager, undone: Undone, *, shows: bool = True) -> int:
    note(f"{manager.name} could not be reached: {undone.reason}; run these commands where it runs:")
    if shows:
        say_lines(shlex.join(command) for command in undone.commands)
    return 1


def _program(home: Home, *words: str) -> Program:
    environment, _ = passed_on(os.environ)
    if "TOKENFERRY_HOME" in environment:
        environment["TOKENFERRY_HOME"] = str(home.path)  # a service does not expand "~"
    if home.config_file is not None:
        environment["TOKENFERRY_CONFIG"] = str(home.config_file)
    return Program((*own_command(), *words), environment, serves=words == ("serve",))


def _remarks(config: Config, *, serve: bool) -> list[str]:
    """What the service will lack."""
    _, secret = passed_on(os.environ)
    found = [
        f"{name} holds a login for the proxy, so it isn't written; name a proxy without one, or set it for the service "
        "yourself"
        for name in secret
    ]
    if serve and config.keys:
        names = ", ".join(config.keys)
        found.append(f"{names}: a variable that api_key names is not set in a service; name a 0600 file instead")
    return found
