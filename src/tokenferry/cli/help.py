from collections.abc import Iterator
from typing import Annotated, Final

import typer

from tokenferry.cli._output import say_lines
from tokenferry.cli._typer import examples, new_app

app = new_app()

EXIT_CODES: Final = {
    "0": "done",
    "1": "failed; or doctor found something; or the answer to a question was no",
    "2": "the command line makes no sense",
    "3": "the configuration can't be used",
    "4": "there is no account, provider, model or key of that name",
    "5": "a login or key doesn't work any more: log in again, or replace it",
    "6": "try again later: nothing is lost",
    "7": "the policy on subscriptions forbids it",
    "8": "a file is unsafe or can't be understood",
    "9": "there are questions to answer, and no terminal to ask them in",
    "128+n": "ended by signal n (130: Ctrl-C)",
}
_REFERENCE: Final = "reference"
_VARIABLES: Final = {
    "TOKENFERRY_HOME": "the folder for everything (--home goes before it)",
    "TOKENFERRY_CONFIG": "the configuration file (--config goes before it)",
    "TOKENFERRY_ACCOUNT": "the account for token and run where none is named",
    "TOKENFERRY_SEAL_KEY_FILE": "the file with the key of encrypted credentials",
    "TOKENFERRY_DEBUG": "1 shows the traceback of a defect, without secrets",
}
_FILES: Final = {
    "config.toml": "the configuration",
    "accounts/": "a document for each account; attached/ and published/ for those of other programs",
    "journal/": "refreshes under way; never delete it",
    "state.db": "client keys, cooldowns, and what happened to the last requests",
    "local.key": "the client key of this machine",
    "audit.log": "who changed what and when",
    "serve.log": "what a gateway that was started with --detach says",
}


@app.command("help", epilog=examples("tokenferry help", "tokenferry help account add", "tokenferry help reference"))
def help_(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC...]", help="A command, or `reference`.", show_default=False),
    ] = None,
) -> None:
    """Show the help of a command, or the reference: exit codes, variables and files."""
    if topic == [_REFERENCE]:
        say_lines(_reference())
        return
    root = context.find_root()
    root.command.main([*(topic or []), "--help"], prog_name="tokenferry", standalone_mode=False)


def _reference() -> Iterator[str]:
    for heading, lines in (("Exit codes", EXIT_CODES), ("Variables", _VARIABLES), ("Files, in the home", _FILES)):
        if heading != "Exit codes":
            yield ""
        yield heading
        width = max(map(len, lines))
        yield from (f"  {name:<{width}}  {text}" for name, text in lines.items())
