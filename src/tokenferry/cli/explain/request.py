import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import typer

from tokenferry.budgets import SpendingLimit
from tokenferry.cli._output import note, say_json, say_lines
from tokenferry.cli._table import Cell, Column, Tone, table, time_cell
from tokenferry.cli._typer import JSON, WIDE, examples, new_app
from tokenferry.errors import UnknownName
from tokenferry.settings import Home
from tokenferry.state import KEPT_DECISIONS, Decision, State
from tokenferry.units import moment

app = new_app()

# Gateways write decisions down in batches, twice a second.
_PATIENCE: Final = 1.5
_POLL: Final = 0.1
_LISTED: Final = 20
_LAST: Final = "last"
_COLUMNS: Final = (
    *(Column("request"), Column("at"), Column("key", wide=True), Column("model", folds=True), Column("account")),
    *(Column("status"), Column("ms", wide=True)),
)
_NO_REQUEST: Final = "no request is on record yet: none has reached an account through a gateway of this home"
_BY_ORDER: Final = "the first, in their order, that has a credential"
_WHAT: Final = {
    "unsent": "could not be reached",
    "lost": "was sent the request, and its answer was lost",
    "unavailable": "has no credential",
    "queued": "waiting, for every account has as many requests as it may have",
}
_NEXT: Final = {
    "choose": "on to the next account",
    "again": "once more in place",
    "renew": "once more with another token",
    "sibling": "on to one other account",
    "provider": "on to the next provider",
    "give": "the client gets that",
}


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
        typer.Argument(metavar="ID", help="From x-tokenferry-request-id or the log, or `last`.", show_default=False),
    ] = None,
    *,
    wide: WIDE = False,
    as_json: JSON = False,
) -> None:
    """Show what happened to a request: which account was chosen, which were skipped, and why.

    Without an ID it lists the last 20 requests, newest first.
    """
    with State(Home.from_environment().state) as state:
        if request_id is None:
            _list(state.decisions.latest(_LISTED), wide=wide, as_json=as_json)
            return
        decision = next(iter(state.decisions.latest(1)), None) if request_id == _LAST else _wait(state, request_id)
    if decision is None and request_id == _LAST:
        raise UnknownName(_NO_REQUEST)
    if decision is None:
        raise UnknownName(
            f"nothing is kept of a request {request_id[:80]!r}: it got to no account, isn't among the last "
            f"{KEPT_DECISIONS:,} that did, or went well among very many; look for it in the gateway's log"
        )
    if as_json:
        say_json(_to_json(decision))
    else:
        say_lines(f"{heading:<10}{text}" for heading, text in _lines(decision))


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


def _lines(decision: Decision) -> Iterator[tuple[str, str]]:
    content: dict[str, Any] = dict(decision.content)
    model = f", model {content['model']}" if content.get("model") else ""
    yield "request", f"{decision.request_id} at {moment(decision.at)}"
    yield "client", f"key {content['client']}: {content['method']} {content['path']}{model}"
    if content.get("provider"):
        name = f" as {content['upstream_model']}" if content.get("upstream_model") else ""
        yield "provider", f"{content['provider']}{name}: {content.get('rule', '')}"
    yield from _accounts(content)
    for one in content.get("budgets", ()):
        limit = SpendingLimit.parse(one["limit"])
        used, reserved = limit.amount_text(one["used"]), limit.amount_text(one["reserved"])
        yield "budget", f"{limit.sentence} for {one['subject']}: reserved {reserved}, used {used}"
    steps = content.get("steps")
    for step in steps or ():
        yield f"+{step['ms']} ms", _step(step)
    for attempt in content.get("attempts", ()) if steps is None else ():
        answer = "no answer" if attempt["status"] is None else f"answered {attempt['status']}"
        yield "attempt", f"{attempt['account']} with {attempt['fingerprint']}: {answer}"
    error = f", {content['error']}" if content.get("error") else ""
    yield "result", f"{content['status']} after {content['ms']} ms{error}"
    if content.get("message"):
        yield "message", content["message"]


def _accounts(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every account that could have served, and what became of it."""
    passed_over = {one["account"]: one for one in content.get("passed_over", ())}
    tried = {one["account"] for one in content.get("steps", ()) if one["what"] == "tried"}
    why = next((one["why"] for one in content.get("steps", ()) if one["what"] == "tried"), _BY_ORDER)
    for name in content.get("candidates", ()):
        if name == content.get("account"):
            yield "account", f"{name} " + ("was the last to be tried" if len(tried) > 1 else f"was chosen: {why}")
        elif name in tried:
            yield "account", f"{name} was tried"
        elif name in passed_over:
            one = passed_over[name]
            until = f", until {moment(one['until'])}" if one.get("until") else ""
            yield "account", f"{name} was skipped: {one['why'].rstrip('.')}{until}"
        else:
            yield "account", f"{name} was not needed"


def _step(step: dict[str, Any]) -> str:
    """One thing that befell the request."""
    account, token = step.get("account", ""), f" with {step['fingerprint']}" if step.get("fingerprint") else ""
    match step["what"]:
        case "tried":
            wait = f" after {step['wait_ms']} ms" if step.get("wait_ms") else ""
            probe = "probing " if step.get("probe") else ""
            model = f", model {step['model']}" if step.get("model") else ""
            return f"{probe}{account}{model}{wait}: {step['why']}"
        case "answered":
            told = f"{account}{token} answered {step['status']}: {step['means'].rstrip('.')}"
        case "not renewed":
            told = f"{account} has no other token: {step['why']}"
        case "served":
            return f"{account}{token} answered {step.get('status', 200)}, which went to the client"
        case "unsent" | "lost" | "unavailable" as what:
            told = f"{account}{token} {_WHAT[what]}: {step['why']}"
        case "refused":
            return f"refused with {step['status']}"
        case what:
            return _WHAT.get(what, str(what))
    return f"{told}{_benched(step.get('benched'))}; {_NEXT.get(step.get('plan', ''), 'over')}"


def _benched(benched: dict[str, Any] | None) -> str:
    if benched is None:
        return ""
    models = f", models of {benched['family']}" if benched["family"] else ""
    until = f"until {moment(benched['until'])}" if benched["until"] else "until it is cleared"
    return f"; {benched['kind']} {benched['name']}{models} is in cooldown {until}"
