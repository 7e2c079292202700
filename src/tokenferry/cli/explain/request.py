import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from tokenferry.cli._output import note, say_json
from tokenferry.cli._table import Cell, Column, Tone, labelled, table, time_cell
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.databases import open_state
from tokenferry.errors import UnknownName
from tokenferry.settings import Home
from tokenferry.state import MOST_DECISIONS, Decision, State
from tokenferry.views import story_lines

app = new_app()

# Gateways write decisions in batches, twice a second.
_PATIENCE: Final = 1.5
_POLL: Final = 0.1
_LISTED: Final = 20
_LAST: Final = "last"
_COLUMNS: Final = (
    *(Column("request"), Column("at"), Column("key", wide=True), Column("model", folds=True), Column("account")),
    *(Column("status"), Column("ms", wide=True)),
)
_NO_REQUEST: Final = "no request is on record yet: none has reached an account through a gateway of this home"


@app.command(
    "request",
    epilog=examples(
        "tokenferry explain request                      the last 20",
        "tokenferry explain request last                 the newest",
        "tokenferry explain request tf_0f3a5c7e9b1d2f4a6c8e0b1d",
        "tokenferry explain request last --json | jq .steps",
    ),
)
def request(
    request_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="The id in x-tokenferry-request-id or the log, or `last`.", show_default=False
        ),
    ] = None,
    *,
    wide: WIDE = False,
    as_json: JSON = False,
) -> None:
    """Show how a request was handled: the chosen account, the skipped ones, and why.

    Without an ID it lists the last 20 requests, newest first.
    """
    with open_state(Home.from_environment()) as state:
        if request_id is None:
            _list(state.decisions.latest(_LISTED), wide=wide, as_json=as_json)
            return
        decision = next(iter(state.decisions.latest(1)), None) if request_id == _LAST else _wait(state, request_id)
    if decision is None and request_id == _LAST:
        raise UnknownName(_NO_REQUEST)
    if decision is None:
        raise UnknownName(
            f"nothing is kept of a request {request_id[:80]!r}: it got to no account, isn't among the last "
            f"{MOST_DECISIONS:,} that did, or went well among very many; look for it in the gateway's log"
        )
    if as_json:
        say_json(_to_json(decision))
    else:
        labelled(story_lines(decision), 10)


def _list(found: Sequence[Decision], *, wide: bool, as_json: bool) -> None:
    if as_json:
        say_json([_to_json(one) for one in found])
    elif found:
        now = time.time()
        table(_COLUMNS, [_cells(one, now) for one in found], wide=wide)
    else:
        note(_NO_REQUEST)


def _cells(one: Decision, now: float) -> tuple[str, ...]:
    client, model, account, status, ms = (
        "-" if (value := one.content.get(name)) is None else str(value)
        for name in ("client", "model", "account", "status", "ms")
    )
    tone: Tone | None = "bad" if status.startswith("5") else "warning" if status.startswith("4") else None
    return one.request_id, time_cell(one.at, now), client, model, account, Cell(status, tone), ms


def _to_json(one: Decision) -> dict[str, Any]:
    return {"request_id": one.request_id, "at": one.at, **one.content}


def _wait(state: State, request_id: str) -> Decision | None:
    end = time.monotonic() + _PATIENCE
    while (decision := state.decisions.get(request_id)) is None and time.monotonic() < end:
        time.sleep(_POLL)
    return decision
