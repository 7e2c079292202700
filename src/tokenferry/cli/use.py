import os
from typing import Annotated, Literal

import typer

from tokenferry.audit import note_change
from tokenferry.broker import use_for_claude_code
from tokenferry.cli._home import open_broker, what_serves
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError
from tokenferry.settings import Home

app = new_app()


@app.command(
    "use",
    epilog=examples(
        "tokenferry use work",
        "tokenferry use work --default-provider",
        "tokenferry use work --for claude-code",
    ),
)
def use(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    *,
    program: Annotated[
        Literal["claude-code"] | None,
        typer.Option("--for", help="Make its login that of this program instead; the one it has goes home."),
    ] = None,
    default_provider: Annotated[
        bool,
        typer.Option("--default-provider", help="Let its provider serve the models that nothing maps, too."),
    ] = False,
) -> None:
    """Put an account first: where none is named, in its provider's pool, and in running gateways within a second.

    If it is limited or can't serve, the next account of its provider stands in. --account and TOKENFERRY_ACCOUNT pin
    one account instead.

    With --for its login is moved: the program has it then and renews it, and what it had before goes back to the
    account it belongs to. Running sessions of Claude Code take the new one up by themselves.
    """
    if program is not None:
        if default_provider:
            raise UsageError("--for moves a login, and --default-provider is about the gateway; give one of them")
        _move(name)
        return
    home, broker = Home.from_environment(), open_broker()
    broker.book.use(name)
    note_change(home, "account.use", name)
    say(f"account {name} is in use")
    if default_provider:
        provider = broker.book.read(name).account.provider
        broker.set_default_provider(provider)
        note_change(home, "provider.default", provider)
        say(f"provider {provider} is the default provider")
    named = os.environ.get("TOKENFERRY_ACCOUNT")
    if named and named != name:
        note(f"TOKENFERRY_ACCOUNT is set to {named!r} here and goes before it for token and run")
    say(what_serves(name, broker))


def _move(name: str) -> None:
    moved = use_for_claude_code(name, open_broker())
    if moved.was_there:
        say(f"Claude Code has account {name} already")
        return
    note_change(Home.from_environment(), "account.move", name, to="claude-code", back=moved.home)
    say(f"Claude Code has account {name} now")
    if moved.is_new:
        note(f"the login it had belonged to no account, and is kept as one: {moved.home}")
    elif moved.home is not None:
        say(f"account {moved.home}, which it had before, is back here")
    if moved.is_gone:
        note(f"account {moved.stranded} was attached to a login that is gone, and is no account any more")
    elif moved.stranded is not None:
        note(
            f"Claude Code had been logged out of account {moved.stranded}; should what was kept of its login here be "
            f"used up, log in again with: tokenferry login {moved.stranded}"
        )
