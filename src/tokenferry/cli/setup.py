import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias
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
from tokenferry.cli._connect import (
    access_to,
    connect,
    files_in_place,
    files_with,
    gateway_command,
    gateway_fault,
    undo_setup,
)
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import note, say_lines
from tokenferry.cli._readiness import readiness
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.clients import (
    API_KEY_HELPER,
    BASE_URL,
    PRINTED_TOOLS,
    TOOLS,
    JsonText,
    Keys,
    PrintedTool,
    Tool,
    ToolFile,
    check_served,
)
from tokenferry.config import Config
from tokenferry.errors import UsageError
from tokenferry.integrations import ANTHROPIC_URL
from tokenferry.providers import is_loopback
from tokenferry.settings import Home

app = new_app(
    "Find your keys and logins, and connect your tools.\n\n"
    "Without a tool it lists keys, logins and tools on this machine, and asks what to do with each. It opens none of "
    "them before you agree, and sends nothing anywhere. The default answer is no. Without a terminal it prints list "
    "and the questions, and exits with 9.",
    "tokenferry setup                       look around, ask, connect",
    "tokenferry setup --json                show what is here",
    "tokenferry setup claude-code --dry-run",
    "tokenferry setup opencode --undo",
    "tokenferry setup aider --print         lines to add by hand",
)

_HELPER: Final = "apiKeyHelper"
_START: Final = "start the gateway: tokenferry serve (for good: tokenferry service install --serve)"

Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="The gateway's address; by default that of [server].")
]
Undo: TypeAlias = Annotated[bool, typer.Option("--undo", help="Restore the previous settings.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show the change, and write nothing.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Print: TypeAlias = Annotated[bool, typer.Option("--print", help="Print the lines to add by hand; write nothing.")]


@app.callback(invoke_without_command=True)
def setup(context: typer.Context, *, as_json: JSON = False) -> int | None:
    """Find your keys and logins, and connect your tools."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise UsageError("--json lists what is here; leave it out when you name a tool")
        return None
    from tokenferry.cli._guide import guide  # noqa: PLC0415  # it reads many formats, and a named tool needs none

    raise typer.Exit(guide(as_json=as_json))


@app.command(
    "claude-code",
    epilog=examples(
        "tokenferry setup claude-code                     show the change, ask, connect",
        "tokenferry setup claude-code --dry-run",
        "tokenferry setup claude-code --project           only in this folder's project",
        "tokenferry setup claude-code --direct --account work",
        "tokenferry setup claude-code --undo",
    ),
)
def claude_code(
    *,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", metavar="PATH", help="The settings file; by default yours for all projects."),
    ] = None,
    project: Annotated[
        bool, typer.Option("--project", help="Use this project's .claude/settings.local.json, which is not shared.")
    ] = False,
    url: Url = None,
    direct: Annotated[bool, typer.Option("--direct", help="Use an account's API key, without the gateway.")] = False,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="The account for --direct.")] = None,
    undo: Undo = False,
    dry_run: DryRun = False,
    print_lines: Print = False,
    yes: Yes = False,
) -> int:
    """Connect Claude Code to the gateway.

    Its settings.json gets an apiKeyHelper and, in env, the gateway's address. Everything else stays as it is. --undo
    restores what was replaced.
    """
    if undo and (url or direct or account or print_lines):
        raise UsageError("--undo restores what was there; leave --url, --direct, --account and --print out")
    home, config = find()
    machine = this_machine()
    path = _path(machine, settings, project=project)
    tool = TOOLS["claude-code"]
    if undo:
        return undo_setup(tool, [ToolFile(path, JsonText, {})], home, dry_run=dry_run, yes=yes)
    address: str | None = None
    if direct:
        if url:
            raise UsageError("--direct goes without the gateway; leave --url out")
        wanted = _directly(open_broker(home, config), home, account)
    else:
        if account:
            raise UsageError(
                "the gateway picks the account: name it as account under [router] in config.toml, or give --direct"
            )
        access = access_to(home, config, url)
        address = access.url
        (file,) = tool.files({}, machine.home, access)
        wanted = file.wanted
    files = [ToolFile(path, JsonText, wanted)]
    if print_lines:
        _print_files(files)
        return 0
    if not connect(tool, lambda _: files, home, dry_run=dry_run, yes=yes):
        return 1
    for line in (*(_gateway_remarks(address, home, config) if address else ()), *_remarks(machine, path, address)):
        note(line)
    return 0


def _writer(tool: Tool) -> Callable[..., int]:
    def write(
        *, url: Url = None, undo: Undo = False, dry_run: DryRun = False, print_lines: Print = False, yes: Yes = False
    ) -> int:
        if undo and (url or print_lines):
            raise UsageError("--undo restores what was there; leave --url and --print out")
        home, config = find()
        if undo:
            return undo_setup(tool, files_in_place(tool, home), home, dry_run=dry_run, yes=yes)
        check_served(tool.title, tool.api_format)
        access = access_to(home, config, url)
        if print_lines:
            _print_files(files_with(tool, access)("KEY"))
            return 0
        if not connect(tool, files_with(tool, access), home, dry_run=dry_run, yes=yes):
            return 1
        for line in _gateway_remarks(access.url, home, config):
            note(line)
        return 0

    write.__doc__ = f"""Connect {tool.title} to the gateway.

    Its settings get the gateway's address and a client key. Everything else stays as it is. --undo restores what was
    replaced.
    """
    return write


def _printer(tool: PrintedTool) -> Callable[..., int]:
    def print_tool(*, url: Url = None, print_lines: Print = False) -> int:
        home, config = find()
        say_lines(tool.lines(access_to(home, config, url)))
        if not print_lines:
            note(f"{tool.title} is set up by hand, so nothing was written; see {tool.source}")
        return 0

    print_tool.__doc__ = f"Print the lines that connect {tool.title}."
    return print_tool


for _tool in TOOLS.values():
    if _tool.name != "claude-code":
        _command = f"tokenferry setup {_tool.name}"
        _lines = examples(_command, f"{_command} --dry-run", f"{_command} --undo")
        app.command(_tool.name, epilog=_lines)(_writer(_tool))
for _printed in PRINTED_TOOLS.values():
    app.command(_printed.name, epilog=examples(f"tokenferry setup {_printed.name} --print"))(_printer(_printed))


def _print_files(files: Sequence[ToolFile]) -> None:
    for file in files:
        say_lines([f"# {file.path}", *file.lines().splitlines(), ""])
    if any(file.holds_key for file in files):
        note("replace KEY with the output of: tokenferry token --gateway; let only your user read that file")


def _path(machine: Machine, named: Path | None, *, project: bool) -> Path:
    if named is not None and project:
        raise UsageError("--settings and --project exclude each other; give one of them")
    if named is not None:
        return named.expanduser().absolute()
    return personal_settings(machine) if project else user_settings(machine)


def _directly(broker: Broker, home: Home, account: str | None) -> Mapping[Keys, str | None]:
    """Settings that give Claude Code an API key. Raises `UsageError` for a credential that its helper can't deliver."""
    name = broker.book.choose(account)
    document = broker.book.read(name)
    if document.account.kind != "api-key":
        raise UsageError(
            f"account {name!r} holds a token, which Claude Code doesn't take from an apiKeyHelper; leave --direct out, "
            "and the gateway presents it as it must be"
        )
    url = broker.provider_of(document.account).base_url
    return {
        API_KEY_HELPER: shlex.join(gateway_command(home, *([account] if account else []))),
        BASE_URL: None if url == ANTHROPIC_URL else url,
    }


def _gateway_remarks(address: str, home: Home, config: Config) -> Iterator[str]:
    """Why the tool would find no gateway, or one that serves nothing."""
    if fault := gateway_fault(address, home):
        yield f"{fault}; {_START}"
    if is_loopback(urlsplit(address).hostname) and (reason := readiness(open_broker(home, config), config).reason):
        yield f"the gateway can serve nothing yet: {reason}"


def _remarks(machine: Machine, path: Path, address: str | None) -> Iterator[str]:
    """What keeps these settings from having an effect."""
    if path not in settings_files(machine):
        yield f"Claude Code reads {path} only with: claude --settings {shlex.quote(str(path))}"
        return
    yield from _shadows(claude_code_chain(machine), path, address)


def _shadows(chain: Chain, path: Path, address: str | None) -> Iterator[str]:
    yield from (warning for warning in chain.warnings if "counts for nothing" in warning)
    for source in chain.sources:
        if source.name == _HELPER:
            if source.state != "absent" and source.where != str(path):
                yield f"the {_HELPER} in {source.where} overrides the one written; remove it there"
            break
        if source.state in {"used", "fails", "shadowed"}:
            # For a cloud provider the reason begins with the variable that selects it.
            name = source.name if source.name.isupper() else source.reason.partition(" ")[0]
            cure = f"unset {name}" if source.where == "the environment" else f"remove it from {source.where}"
            yield f"{name} in {source.where} overrides {_HELPER}, so this has no effect; {cure}"
    # After a dry run the default may still be the winner; it overrides nothing.
    is_addressed = chain.base_url == address or chain.base_url_from in {str(path), CLAUDE_CODES_DEFAULT}
    if address is not None and chain.sends and not is_addressed:
        yield f"ANTHROPIC_BASE_URL in {chain.base_url_from} overrides the one written; remove it there"
