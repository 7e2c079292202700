import sys
from typing import Annotated

import typer

from tokenferry.audit import note_change
from tokenferry.broker import interrupted_move, swap_to_next_available_account, use_for_claude_code
from tokenferry.claude_code import STORE
from tokenferry.claude_code.precedence import claude_code_chain
from tokenferry.cli._account_json import account_json
from tokenferry.cli._attach import attach_claude_code
from tokenferry.cli._chains import chain_to_json, known_accounts, summary
from tokenferry.cli._complete import OptionalAccountName, provider_names
from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import note, say, say_json
from tokenferry.cli._statusline import statusline
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UsageError
from tokenferry.limits import read_moment
from tokenferry.settings import Home
from tokenferry.stores import check_account_name

app = new_app(
    "Attach Claude Code's login, or switch it to another one.",
    "tokenferry claude-code attach mine",
    "tokenferry claude-code switch work",
    "tokenferry claude-code switch --next",
    "tokenferry claude-code status",
    "tokenferry claude-code statusline",
)


@app.command(
    "attach",
    epilog=examples("tokenferry claude-code attach mine", "tokenferry claude-code attach mine --provider claude-max"),
)
def attach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.", show_default=False)],
    *,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="The provider; claude-max by default.",
            autocompletion=provider_names,
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Attach Claude Code's login as an account; it stays where it is.

    Claude Code goes on using and refreshing it; nothing is copied.
    """
    check_account_name(name)
    with account_json(name, wanted=as_json):
        attach_claude_code(open_broker(), name, provider)


@app.command(
    "switch",
    epilog=examples(
        "tokenferry claude-code switch work",
        "tokenferry claude-code switch --next",
        'tokenferry claude-code switch --next --until "$(date -d 18:00 +%s)"',
    ),
)
def switch(
    name: OptionalAccountName = None,
    *,
    next_: Annotated[
        bool, typer.Option("--next", help="Switch to the next account: the present one is limited.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="When the limit ends: seconds since 1970 or RFC 3339.", show_default=False
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Give Claude Code another account's login; its present login returns to its own account.

    Claude Code then owns the login and refreshes it. Running sessions pick it up.

    --next marks the present account as limited until the limit ends. Then it switches to the first account without a
    mark, or the first whose mark has ended, and prints the account's e-mail address or name. It needs the policy
    own-use.
    """
    if (name is None) != next_:
        raise UsageError("name an account, or give --next; not both")
    if until is not None and not next_:
        raise UsageError("--until is the end of the present account's limit, and needs --next")
    if name is not None:
        with account_json(name, wanted=as_json):
            _switch(name)
        return
    end = None if until is None else read_moment(until)
    if until is not None and end is None:
        raise UsageError(f"--until {until[:40]!r} is not a time; give seconds since 1970, or 2026-01-27T12:00:00Z")
    label = swap_to_next_available_account(None if end is None else int(end), open_broker())
    note_change(Home.from_environment(), "account.swap", label, to="claude-code")
    if as_json:
        say_json({"account": label})
    else:
        say(label)


def _switch(name: str) -> None:
    moved = use_for_claude_code(name, open_broker())
    if moved.was_there:
        say(f"Claude Code already has account {name}")
        return
    note_change(Home.from_environment(), "account.move", name, to="claude-code", back=moved.home)
    say(f"Claude Code has account {name} now")
    if moved.is_new:
        note(f"its previous login belonged to no account, and is now account {moved.home}")
    elif moved.home is not None:
        say(f"its previous login is account {moved.home}'s again")
    if moved.is_gone:
        note(f"account {moved.stranded} was attached to a login that is gone, so the account was removed")
    elif moved.stranded is not None:
        note(
            f"Claude Code had been logged out of account {moved.stranded}; if its last login here "
            f"has expired, log in again with: tokenferry login {moved.stranded}"
        )


@app.command("status", epilog=examples("tokenferry claude-code status", "tokenferry claude-code status --json"))
def status(*, as_json: JSON = False) -> None:
    """Show Claude Code's account, and the credential that it uses in this folder."""
    home, config = find()
    broker = open_broker(home, config)
    has = next((one for one in rows(broker) if one.document and one.document.account.store == STORE), None)
    known = known_accounts(broker, home)
    chain = claude_code_chain(this_machine())
    move = interrupted_move(home)
    if as_json:
        say_json(
            {
                "account": has and has.to_json(),
                "uses": chain_to_json(chain, known),
                "interrupted_move": move and move.to,
            }
        )
        return
    attach = "no account; attach its login with: tokenferry claude-code attach NAME"
    say(f"account  {attach if has is None else f'{has.name}: {has.text}'}")
    say(f"uses     {summary(chain)}")
    if move is not None:
        note(
            f"the move of account {move.to} to Claude Code was cut short; complete it with: tokenferry claude-code "
            f"switch {move.to}"
        )


@app.command("statusline", epilog=examples("""echo '{"session_id": "0f7c-…"}' | tokenferry claude-code statusline"""))
def show_statusline() -> None:
    """Print a line for Claude Code's status line: account, windows, cost.

    Reads Claude Code's JSON from stdin. The line names the account that served the session last, the share of each of
    its windows that is used, with the time until it resets, and what the session cost.
    """
    if line := statusline("" if sys.stdin is None else sys.stdin.read()):
        say(line)
