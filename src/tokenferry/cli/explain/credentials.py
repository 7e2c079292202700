from typing import Annotated, Any, Final, Literal

import typer

from tokenferry.claude_code.precedence import claude_code_chain, sdk_chain
from tokenferry.cli._chains import chain_to_json, known_accounts, lines_of, with_clones
from tokenferry.cli._decision import choice
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._machine import this_machine
from tokenferry.cli._output import say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app

app = new_app()

_CHAINS: Final = {"sdk": sdk_chain, "claude-code": claude_code_chain}


@app.command(
    "credentials",
    epilog=examples(
        "tokenferry explain credentials",
        "tokenferry explain credentials --for claude-code",
        "tokenferry explain credentials --json | jq '.programs[] | {program, winner}'",
    ),
)
def credentials(
    *,
    env: Annotated[bool, typer.Option("--env", hidden=True)] = False,  # noqa: ARG001  # old; it always counts
    program: Annotated[
        Literal["sdk", "claude-code"] | None, typer.Option("--for", help="Explain only this program.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show where programs started here find their credential, and why not elsewhere.

    Reads environment and files. Contacts no server, runs nothing and changes nothing. Secrets appear as fingerprints.
    """
    home, config = find()
    broker = open_broker(home, config)
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
    return [f"tokenferry itself would choose account {name}", f"  {reason}; more: tokenferry explain account {name}"]
