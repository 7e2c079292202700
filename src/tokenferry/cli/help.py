from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from tokenferry.cli._app import COMMANDS
from tokenferry.cli._man import manual
from tokenferry.cli._output import say_lines
from tokenferry.cli._pages import show_page, topics
from tokenferry.cli._spelling import current
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UnknownName, nearest

app = new_app()

EXIT_CODES: Final = {
    "0": "done",
    "1": "failed; doctor found a problem; or you answered no",
    "2": "the command line can't be understood",
    "3": "the configuration is invalid",
    "4": "no account, provider, model or key has that name",
    "5": "a login or key no longer works: log in again, or replace it",
    "6": "try again later: nothing is lost",
    "7": "the policy on subscriptions forbids it",
    "8": "a file is unsafe or can't be understood",
    "9": "there are questions to answer, and no terminal",
    "128+n": "ended by signal n (130: Ctrl-C)",
}
_REFERENCE: Final = "reference"
_MANUAL: Final = "man"
VARIABLES: Final = {
    "TOKENFERRY_HOME": "the folder for all files (--home overrides it)",
    "TOKENFERRY_CONFIG": "the configuration file (--config overrides it)",
    "TOKENFERRY_ACCOUNT": "the account for token and run if none is named",
    "TOKENFERRY_SEAL_KEY_FILE": "the file with the key of encrypted credentials",
    "TOKENFERRY_DEBUG": "1 shows tracebacks of defects, without secrets",
}
FILES: Final = {
    "config.toml": "the configuration",
    "accounts/": "a document for each account; attached/ and published/ belong to other programs",
    "journal/": "refreshes under way; never delete it",
    "state.db": "client keys, cooldowns, and how the last requests were routed",
    "local.key": "the client key of this machine",
    "audit.log": "a record of all changes",
    "serve.log": "the output of a gateway started with --detach",
}


@app.command("help", epilog=examples("tokenferry help", "tokenferry help pool", "tokenferry help account add"))
def help_(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC...]", help="A page, a command, or `reference`.", show_default=False),
    ] = None,
) -> None:
    """Show the page of a topic, the options of a command, or both; without a topic list all topics.

    `reference` lists exit codes, variables and files; `man` prints the manual page.
    """
    words = topic or []
    if words == [_REFERENCE]:
        say_lines(_reference())
        return
    root: Any = context.find_root()
    if words == [_MANUAL]:
        sections = {"Exit status": EXIT_CODES, "Environment": VARIABLES, "Files": FILES}
        say_lines(manual(root.command, root, sections))
        return
    pages = topics()
    page = next((name for name in (words[0], f"{words[0]}s") if name in pages), None) if len(words) == 1 else None
    is_command = not words or root.command.get_command(root, current(words)[0]) is not None
    if is_command:
        root.command.main([*words, "--help"], prog_name="tokenferry", standalone_mode=False)
    elif page is None:
        near = nearest(words[0], [_REFERENCE, *pages, *COMMANDS])
        hint = f"did you mean {near!r}? All topics" if near else "all topics"
        raise UnknownName(f"there is no topic {words[0][:80]!r}; {hint}: tokenferry help")
    if page is not None:
        say_lines([""] if is_command else [])
        show_page(page)
    if not words:
        say_lines(["", "Topics:", *_aligned(pages)])


def _reference() -> Iterator[str]:
    for heading, lines in (("Exit codes", EXIT_CODES), ("Variables", VARIABLES), ("Files, in the home", FILES)):
        if heading != "Exit codes":
            yield ""
        yield heading
        yield from _aligned(lines)


def _aligned(lines: dict[str, str]) -> Iterator[str]:
    width = max(map(len, lines))
    yield from (f"  {name:<{width}}  {text}" for name, text in lines.items())
