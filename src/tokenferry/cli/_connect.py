"""Connecting a tool on this machine: show the change to its settings files, ask, and write them."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.cli._diff import say_diff
from tokenferry.cli._input import confirmed
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import note, say
from tokenferry.cli._probe import gateway_url, who_answers
from tokenferry.clients import ClientSetup, GatewayAccess, SettingsFile, SetupPlan, Tool, ToolFile
from tokenferry.config import Config
from tokenferry.databases import open_state
from tokenferry.errors import UnsafeFile, UsageError
from tokenferry.providers import is_loopback, url_fault
from tokenferry.settings import XDG_VARIABLES, Home
from tokenferry.state import gateway_records, local_key, read_local_key

_NO_KEY_YET: Final = "made-when-this-is-written"


def access_to(home: Home, config: Config, url: str | None = None) -> GatewayAccess:
    """How a tool on this machine reaches the gateway. Raises `ConfigError`, `UsageError`."""
    if url is not None and (fault := url_fault(url)):
        raise UsageError(f"--url {fault}")
    address = url.rstrip("/") if url else gateway_url(config)
    return GatewayAccess(address, tuple(gateway_command(home, "--gateway")), home.local_key)


def files_with(tool: Tool, access: GatewayAccess) -> Callable[[str], tuple[ToolFile, ...]]:
    """A function from a client key to the tool's files."""
    person = this_machine().home
    return lambda key: tool.files(os.environ, person, replace(access, key=key))


def files_in_place(tool: Tool, home: Home) -> tuple[ToolFile, ...]:
    """The tool's files; only their paths matter here."""
    return tool.files(os.environ, this_machine().home, GatewayAccess("", ("",), home.local_key))


def connect(tool: Tool, files_of: Callable[[str], Sequence[ToolFile]], home: Home, *, dry_run: bool, yes: bool) -> bool:
    """Show the change to the tool's files, ask, and write it; return whether the tool is connected now.

    `files_of` makes the files for a client key. If they need a key and none exists, it is created after the yes.
    """
    key = read_local_key(home)
    files = files_of(key.reveal() if key else _NO_KEY_YET)
    setups = [_setup_of(tool, file, home) for file in files]
    plans = [setup.plan(file.wanted, holds_key=file.holds_key) for setup, file in zip(setups, files, strict=True)]
    nothing = f"{tool.title} is already connected in {_places(files)}"
    if not _agreed(plans, nothing, dry_run=dry_run, yes=yes):
        return False
    if dry_run:
        return True
    if key is None and any(file.holds_key or file.names(home.local_key) for file in files):
        with open_state(home) as state:
            files = files_of(local_key(home, state).reveal())
        plans = [setup.plan(file.wanted, holds_key=file.holds_key) for setup, file in zip(setups, files, strict=True)]
    _write(setups, plans)
    return True


def undo_setup(tool: Tool, files: Sequence[ToolFile], home: Home, *, dry_run: bool, yes: bool) -> int:
    """Show what would be restored in the tool's files, ask, and restore it; give the exit code."""
    setups = _setups_anywhere(tool, files, home)
    setups = [setup for setup in setups if setup.is_done] or setups[:1]  # its message: there is no record
    plans = [setup.plan_undo() for setup in setups]
    left = [line for plan in plans for line in plan.left]
    for line in [*left, *(plan.note for plan in plans if plan.note)]:
        note(line)
    if not _agreed(plans, f"no settings of tokenferry are left in {_places(files)}", dry_run=dry_run, yes=yes):
        return 1
    if not dry_run:
        _write(setups, plans)
    return 1 if left else 0


def is_connected(tool: Tool, files: Sequence[ToolFile], home: Home) -> bool:
    """Whether tokenferry has connected the tool. Opens none of the tool's files."""
    try:
        return any(setup.is_done for setup in _setups_anywhere(tool, files, home))
    except UnsafeFile:  # a dangling link
        return False


def _setup_of(tool: Tool, file: ToolFile, home: Home) -> ClientSetup:
    return ClientSetup(SettingsFile.at(file.path, file.syntax, tool.title), home, tool.name)


def _setups_anywhere(tool: Tool, files: Sequence[ToolFile], home: Home) -> list[ClientSetup]:
    places = [replace(file, path=path) for file in files for path in (file.path, *file.others)]
    return [_setup_of(tool, file, home) for file in places]


def _places(files: Sequence[ToolFile]) -> str:
    return " and ".join(str(file.path) for file in files)


def _agreed(plans: Sequence[SetupPlan], nothing: str, *, dry_run: bool, yes: bool) -> bool:
    """Show the changes and ask; without changes nothing is asked."""
    changes = [plan for plan in plans if plan.changes_something]
    for plan in changes:
        say_diff(plan.diff())
    if not changes:
        say(nothing)
    if dry_run or yes or not changes or confirmed("Make this change?", flag="--yes"):
        return True
    note("nothing was changed")
    return False


def _write(setups: Sequence[ClientSetup], plans: Sequence[SetupPlan]) -> None:
    for setup, plan in zip(setups, plans, strict=True):
        setup.carry_out(plan)
        if plan.changes_something:
            say(f"{'wrote' if plan.after is not None else 'removed'} {setup.file.path}")


def gateway_fault(address: str, home: Home) -> str | None:
    """Why no gateway is reachable at the address; None if one listens there."""
    running = [record for record in gateway_records(home) if record.is_running]
    if any(record.listens_at(address) for record in running):
        return None
    if not is_loopback(urlsplit(address).hostname):  # a proxy's address, which is in no record
        answers = running and who_answers(address) == "gateway"
        return None if answers else f"no gateway answers at {address}"
    others = f"; one listens on {' and '.join(map(str, running))}" if running else ""
    return f"no gateway of this home listens on {address}{others}"


def gateway_command(home: Home, *arguments: str) -> list[str]:
    """A command for this tokenferry that works from any folder and environment."""
    words = [*_own_program(), "token", *arguments]
    if os.environ.get("TOKENFERRY_HOME"):
        words[:0] = ["env", f"TOKENFERRY_HOME={home.path}"]
    elif places := [f"{name}={os.environ[name]}" for name in XDG_VARIABLES if os.environ.get(name)]:
        words[:0] = ["env", *places]
    return words


def _own_program() -> list[str]:
    program = Path(sys.argv[0]).absolute()
    if program.name == "tokenferry" and os.access(program, os.X_OK) and program.is_file():
        return [str(program)]
    beside = Path(sys.executable).with_name("tokenferry")
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "tokenferry"]
