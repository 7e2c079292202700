from typing import Annotated, Any, Final, Literal

import typer

from tokenferry.claude_code.precedence import claude_code_chain, sdk_chain
from tokenferry.cli._chains import chain_to_json, known_accounts, lines_of, with_clones
from tokenferry.cli._decision import choice, decision
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UsageError

app = new_app()

_CHAINS: Final = {"sdk": sdk_chain, "claude-code": claude_code_chain}


@app.command(
    "explain",
    epilog=examples(
        "tokenferry explain",
        "tokenferry explain --for claude-code",
        "tokenferry explain --account work",
        "tokenferry explain --json | jq '.programs[] | {program, winner}'",
    ),
)
def explain(
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Explain what tokenferry does with this account.")
    ] = None,
    env: Annotated[
        bool, typer.Option("--env", help="Explain what programs find here; this is done where nothing else is named.")
    ] = False,
    program: Annotated[
        Literal["sdk", "claude-code"] | None, typer.Option("--for", help="Explain this program alone.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Say where programs started here find their credential, and why not elsewhere.

    It looks at the environment and at files, asks nobody, runs nothing and changes nothing. Secrets are told by their
    fingerprints.
    """
    if account and (env or program):
        raise UsageError("--account explains an account, whatever the environment; leave out --env and --for")
    home, config = find()
    broker = open_broker(home, config)
    if account:
        told = decision(broker, home, account)
        if as_json:
            say_json(told.to_json())
        else:
            say_lines(told.lines())
        return
    known = known_accounts(broker, home)
    machine = this_machine()
    chains = [with_clones(_CHAINS[name](machine), known) for name in ([program] if program else _CHAINS)]
    if as_json:
        chosen, reason = choice(broker)
        own: dict[str, Any] = {"account": chosen, "reason": reason}
        say_json({"programs": [chain_to_json(chain, known) for chain in chains], "tokenferry": own})
        return
    for chain in chains:
        say_lines((*lines_of(chain, known), ""))
    say_lines(_own_choice(*choice(broker)))


def _own_choice(name: str | None, reason: str) -> list[str]:
    if name is None:
        return ["tokenferry itself would choose no account", f"  {reason}"]
    return [f"tokenferry itself would choose account {name}", f"  {reason}; more: tokenferry explain --account {name}"]
