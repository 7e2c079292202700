import time
from typing import Annotated

import typer

from tokenferry.cli._cooldowns import COLUMNS, cells, to_json
from tokenferry.cli._output import note, say, say_json
from tokenferry.cli._table import table
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.databases import open_state
from tokenferry.errors import UsageError
from tokenferry.readiness import models
from tokenferry.settings import Home

app = new_app(
    "List cooldowns and end them: which accounts, why, until when.",
    "tokenferry cooldown list",
    "tokenferry cooldown clear work",
)


@app.command(
    "list",
    epilog=examples(
        "tokenferry cooldown list",
        "tokenferry cooldown list --json | jq -r '.[] | select(.kind == \"account\") | .name'",
    ),
)
def list_(
    *,
    over: Annotated[bool, typer.Option("--over", help="Include cooldowns that have ended.")] = False,
    wide: WIDE = False,
    as_json: JSON = False,
) -> None:
    """List the cooldowns of this machine, from all its processes."""
    now = time.time()
    with open_state(Home.from_environment()) as state:
        found = [one for one in state.cooldowns.list() if over or not one.is_over(now)]
    if as_json:
        say_json([to_json(one, now) for one in found])
    elif found:
        table(COLUMNS, [cells(one, now) for one in found], wide=wide)
    else:
        note("no account is in cooldown")


@app.command(
    "clear",
    epilog=examples(
        "tokenferry cooldown clear work",
        "tokenferry cooldown clear --all",
    ),
)
def clear(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An account, organization or provider.", show_default=False)
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="End all cooldowns.")] = False,
    as_json: JSON = False,
) -> None:
    """End cooldowns. Running gateways use the accounts again within a second.

    For an account it also ends the cooldowns of its organization, which other accounts share. The exit code is 0 even
    if there was none, and 4 for an unknown name.
    """
    if (name is None) != everything:
        raise UsageError("name an account, organization or provider, or give --all; not both")
    from tokenferry.cli._actions import OPERATOR, acting, clear_cooldowns  # noqa: PLC0415  # lists don't need it

    now = time.time()
    with acting() as context:
        live = clear_cooldowns(context, OPERATOR, name)
    if as_json:
        say_json([to_json(one, now) for one in live])
        return
    for one in live:
        say(f"ended {one.cause} of {one.scope.kind} {one.scope.name}{models(one)}")
    if not live:
        note("there is no cooldown" if name is None else f"{name[:80]} has no cooldown")
