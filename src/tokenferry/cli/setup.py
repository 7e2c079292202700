import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from tokenferry.broker import Broker
from tokenferry.claude_code.precedence import (
    CLAUDE_CODES_DEFAULT,
    Chain,
    Machine,
    claude_code_chain,
    personal_settings,
    settings_files,
    user_settings,
)
from tokenferry.claude_code.setup import API_KEY_HELPER, BASE_URL, ClaudeCodeSetup, Keys, SetupPlan
from tokenferry.cli._diff import say_diff
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._input import confirmed
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import note, say
from tokenferry.cli._probe import gateway_url, who_answers
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError
from tokenferry.integrations import ANTHROPIC_URL
from tokenferry.providers import is_loopback, url_fault
from tokenferry.settings import Home
from tokenferry.state import gateway_records

app = new_app(
    "Lead other programs to tokenferry by their own settings.",
    "tokenferry setup claude-code",
    "tokenferry setup claude-code --undo",
)

_HELPER: Final = "apiKeyHelper"


@app.callback()
def begin() -> None:
    """Lead other programs to tokenferry by their own settings."""


@app.command(
    "claude-code",
    epilog=examples(
        "tokenferry setup claude-code                     through the gateway; shows the change and asks",
        "tokenferry setup claude-code --dry-run",
        "tokenferry setup claude-code --project           in the project of this folder alone",
        "tokenferry setup claude-code --direct --account work",
        "tokenferry setup claude-code --undo",
    ),
)
def claude_code(
    *,
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="PATH", help="The settings file; by default the user's.")
    ] = None,
    project: Annotated[
        bool, typer.Option("--project", help="This project's .claude/settings.local.json, which is yours alone.")
    ] = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where the gateway is; by default what [server] says.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Give it an account's API key, without the gateway.")
    ] = False,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="With --direct: the account.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Restore what was there before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change, and make none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask whether it is meant.")] = False,
) -> int:
    """Make Claude Code ask tokenferry for its credential.

    Its settings.json gets an apiKeyHelper and, in env, the gateway's address. Everything else in it stays as it is, and
    what is replaced is kept, so that --undo restores it.
    """
    if undo and (url or direct or account):
        raise UsageError("--undo restores what was there; leave --url, --direct and --account out")
    home, config = find()
    machine = this_machine()
    path = _path(machine, settings, project=project)
    tool = ClaudeCodeSetup(path, home)
    if undo:
        return _undo(tool, dry_run=dry_run, yes=yes)
    address: str | None = None
    if direct:
        if url:
            raise UsageError("--direct goes without the gateway; leave --url out")
        wanted = _directly(open_broker(home, config), home, account)
    else:
        if account:
            raise UsageError(
                "the gateway picks the account: name it as account under [gateway] in config.toml, or give --direct"
            )
        address = _checked(url) if url else gateway_url(config)
        wanted = {API_KEY_HELPER: _command(home, "--gateway"), BASE_URL: address}
    plan = tool.plan(wanted)
    if not _carry_out(tool, plan, f"Claude Code is set up already in {path}", dry_run=dry_run, yes=yes):
        return 1
    for line in _remarks(machine, path, address, home):
        note(line)
    return 0


def _path(machine: Machine, named: Path | None, *, project: bool) -> Path:
    if named is not None and project:
        raise UsageError("--settings and --project both name the file; give one of them")
    if named is not None:
        return named.expanduser().absolute()
    return personal_settings(machine) if project else user_settings(machine)


def _checked(url: str) -> str:
    if fault := url_fault(url):
        raise UsageError(f"--url {fault}")
    return url.rstrip("/")


def _directly(broker: Broker, home: Home, account: str | None) -> dict[Keys, str | None]:
    """Settings that give Claude Code an API key. Raises `UsageError` for what its helper can't hand over."""
    name = broker.book.choose(account)
    document = broker.book.read(name)
    if document.account.kind != "api-key":
        raise UsageError(
            f"account {name!r} holds a token, which Claude Code doesn't take from an apiKeyHelper; leave --direct out, "
            "and the gateway presents it as it must be"
        )
    url = broker.provider_of(document.account).base_url
    return {
        API_KEY_HELPER: _command(home, account) if account else _command(home),
        BASE_URL: None if url == ANTHROPIC_URL else url,
    }


def _command(home: Home, *arguments: str) -> str:
    """A shell command that runs this tokenferry, wherever it is called from."""
    words = [*_own_program(), "token", *arguments]
    if os.environ.get("TOKENFERRY_HOME"):
        words[:0] = ["env", f"TOKENFERRY_HOME={home.path}"]
    return shlex.join(words)


def _own_program() -> list[str]:
    program = Path(sys.argv[0]).absolute()
    if program.name == "tokenferry" and os.access(program, os.X_OK) and program.is_file():
        return [str(program)]
    beside = Path(sys.executable).with_name("tokenferry")
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "tokenferry"]


def _undo(tool: ClaudeCodeSetup, *, dry_run: bool, yes: bool) -> int:
    plan = tool.plan_undo()
    for line in plan.left:
        note(line)
    nothing = f"nothing of tokenferry's is left in {tool.file.path}"
    is_done = _carry_out(tool, plan, nothing, dry_run=dry_run, yes=yes)
    return 0 if is_done and not plan.left else 1


def _carry_out(tool: ClaudeCodeSetup, plan: SetupPlan, nothing: str, *, dry_run: bool, yes: bool) -> bool:
    """Show the change, ask, and make it; tells whether that is how things are now (or would be)."""
    if plan.changes_something:
        say_diff(plan.diff())
    else:
        say(nothing)
    if dry_run:
        return True
    if plan.changes_something and not yes and not confirmed("Make this change?", flag="--yes"):
        note("nothing was changed")
        return False
    tool.carry_out(plan)
    if plan.changes_something:
        say(f"{'wrote' if plan.after is not None else 'removed'} {tool.file.path}")
    return True


def _remarks(machine: Machine, path: Path, address: str | None, home: Home) -> Iterator[str]:
    """What keeps these settings from having their effect."""
    if address is not None and (fault := _gateway_fault(address, home)):
        yield f"{fault}; start the gateway: tokenferry serve (for good: tokenferry service install --serve)"
    if path not in settings_files(machine):
        yield f"Claude Code reads {path} only when it is told to: claude --settings {shlex.quote(str(path))}"
        return
    yield from _shadows(claude_code_chain(machine), path, address)


def _gateway_fault(address: str, home: Home) -> str | None:
    running = [record for record in gateway_records(home) if record.is_running]
    if any(record.listens_at(address) for record in running):
        return None
    if not is_loopback(urlsplit(address).hostname):  # a proxy's address, which no record names
        answers = running and who_answers(address) == "gateway"
        return None if answers else f"no gateway answers at {address}"
    others = f"; one listens on {' and '.join(map(str, running))}" if running else ""
    return f"no gateway of this home listens on {address}{others}"


def _shadows(chain: Chain, path: Path, address: str | None) -> Iterator[str]:
    yield from (warning for warning in chain.warnings if "counts for nothing" in warning)
    for source in chain.sources:
        if source.name == _HELPER:
            if source.state != "absent" and source.where != str(path):
                yield f"the {_HELPER} in {source.where} goes before the one written; remove it there"
            break
        if source.state in {"used", "fails", "shadowed"}:
            # Of a cloud provider the reason begins with the variable that asks for it.
            name = source.name if source.name.isupper() else source.reason.partition(" ")[0]
            cure = f"unset {name}" if source.where == "the environment" else f"remove it from {source.where}"
            yield f"{name} in {source.where} goes before {_HELPER}, so this has no effect; {cure}"
    # After a dry run the default may still be what counts; it goes before nothing.
    is_addressed = chain.base_url == address or chain.base_url_from in {str(path), CLAUDE_CODES_DEFAULT}
    if address is not None and chain.sends and not is_addressed:
        yield f"ANTHROPIC_BASE_URL in {chain.base_url_from} goes before the one written; remove it there"
