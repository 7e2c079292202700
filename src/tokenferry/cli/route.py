import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from tokenferry.broker import Broker
from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import moment, say, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UnknownName, UsageError
from tokenferry.pool import Choice, Criteria, PassedOver, Pool, Target, account_group, affinity_key
from tokenferry.readiness import Unusable, choose, pool_of, resolver_of, status_of, unusable_accounts
from tokenferry.routing import (
    BodyFacts,
    Malformed,
    NoRoute,
    RoutePlan,
    RouteRequest,
    scan,
)
from tokenferry.state import ClientKey, State
from tokenferry.stores import Account

app = new_app()

_LOCAL: Final = "local"
_LIMIT: Final = 32 * 1024 * 1024


@app.command(
    "route",
    epilog=examples(
        "tokenferry route --dry-run",
        "tokenferry route --dry-run --model claude-opus-4-5",
        "tokenferry route --dry-run --body request.json --header 'x-team: research'",
        "tokenferry route --dry-run --session 7f3a1c02-8f55-4a4e-9d3a-0c7e2b1f4d66 --json",
    ),
)
def route(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would be done.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="The model that is asked for.", show_default=False)
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="The request's body; - is stdin.", show_default=False)
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="LINE", help="One of its headers; may be repeated.", show_default=False),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="S", help="The session it belongs to, by its id.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="The client key it comes with, by name or id; else this machine's."),
    ] = None,
    as_json: JSON = False,
) -> int:
    """Say by which rule a request goes where, which account would serve it, and why no other, by what is on record.

    What a running gateway keeps to itself doesn't count: how much of their limits accounts have used up, whose turn it
    is, and who has as many requests as it may have.
    """
    if not dry_run:
        raise UsageError("route sends nothing; say --dry-run")
    home, config = find()
    broker = open_broker(home, config)
    facts = _facts(model, body)
    with State(home.state) as state:
        client = _client(state, key)
        plan = resolver_of(config, broker).resolve(RouteRequest(facts, _headers(header or [])), client)
        if isinstance(plan, NoRoute):
            _tell_refusal(plan, as_json=as_json)
            return 1
        unusable = unusable_accounts(broker, {row.name: row.state for row in rows(broker)})
        choices = _choices(
            broker,
            pool_of(config, state),
            plan,
            unusable,
            client=client,
            session=session or "",
            served=state.decisions.last_account_of(session) if session else None,
        )
    status = status_of((one for _, choice in choices for one in choice.passed_over), unusable)
    if as_json:
        say_json([_to_json(plan, facts, target, choice) for target, choice in choices])
    else:
        say_lines(f"{heading:<10}{text}" for heading, text in _lines(plan, choices, status))
    return 0


def _client(state: State, name: str | None) -> ClientKey:
    """The key; a stand-in for this machine's own, which the first `serve` makes."""
    try:
        return state.keys.get(name or _LOCAL)
    except UnknownName:
        if name is not None:
            raise
    return ClientKey("", _LOCAL, "client", created_at=0, fingerprint="")


def _facts(model: str | None, body: Path | None) -> BodyFacts:
    if body is None:
        content = msgspec.json.encode({} if model is None else {"model": model})
    elif model is not None:
        raise UsageError("the body names the model; leave out --model")
    else:
        try:
            if str(body) == "-":
                content = sys.stdin.buffer.read(_LIMIT + 1)
            else:
                with body.open("rb") as file:
                    content = file.read(_LIMIT + 1)
        except OSError as fault:
            raise UsageError(f"{body} can't be read: {fault.strerror}") from None
        if len(content) > _LIMIT:
            raise UsageError(f"the body is larger than {_LIMIT >> 20} MiB (the gateway would answer 413)")
    facts = scan([content])
    if isinstance(facts, Malformed):
        raise UsageError(f"{facts.message} (the gateway would answer 400)")
    return facts


def _headers(lines: Sequence[str]) -> list[tuple[bytes, bytes]]:
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(f"{line[:80]!r} is no header; write it as NAME: VALUE")
        headers.append((name.strip().lower().encode(), value.strip().encode()))
    return headers


def _tell_refusal(found: NoRoute, *, as_json: bool) -> None:
    if as_json:
        say_json([{"provider": None, "status": found.status, "refused": found.message}])
    else:
        say(f"{'refused':<10}{found.status}: {found.message}")


def _choices(
    broker: Broker,
    pool: Pool,
    plan: RoutePlan,
    unusable: Mapping[str, Unusable],
    *,
    client: ClientKey,
    session: str,
    served: str | None,
) -> list[tuple[Target, Choice]]:
    want = Criteria(affinity_key(client.id, session=session), None, plan.pinned)
    if served is not None:
        pool.remember(plan.targets, want, served)
    accounts = broker.book.listing().accounts
    return [
        (target, _with_denied(choose(pool, target, want, unusable), target, broker, accounts))
        for target in pool.order(plan.targets)
    ]


def _with_denied(choice: Choice, target: Target, broker: Broker, accounts: Sequence[Account]) -> Choice:
    """The same with the provider's accounts that the client key may not use, of which a plan says nothing."""
    everybody = account_group(broker.providers[target.group.provider], accounts).accounts
    denied = [
        PassedOver(one.name, "its client key may not use it", is_allowed=False)
        for one in everybody
        if one.name not in target.group.by_name
    ]
    return replace(choice, passed_over=(*choice.passed_over, *denied))


def _lines(plan: RoutePlan, choices: Sequence[tuple[Target, Choice]], status: int) -> Iterator[tuple[str, str]]:
    yield "rule", plan.rule
    if not choices:
        yield "nobody", "there is no account that may serve"
    has_served = False
    for target, choice in choices:
        model = f", model {target.model}" if target.model else ""
        yield "provider", f"{target.group.provider}{model}"
        if choice.account is not None:
            verb = "would be next, should all before fail" if has_served else "would serve"
            yield "account", f"{choice.account.name} {verb}: {choice.reason}"
            has_served = True
        for one in choice.passed_over:
            until = "" if one.until is None else f", until {moment(one.until)}"
            yield "account", f"{one.account} not: {one.reason.removesuffix('.')}{until}"
    if choices and not has_served:
        yield "nobody", f"the client would be told so, with {status} (it is {moment(int(time.time()))})"


def _to_json(plan: RoutePlan, facts: BodyFacts, target: Target, choice: Choice) -> dict[str, Any]:
    route = plan.route
    return {
        "rule": "default" if route is None else route.rule,
        "reason": plan.rule if route is None else route.reason,
        "requested": facts.model,
        "provider": target.group.provider,
        "model": target.model or None,
        "account": None if choice.account is None else choice.account.name,
        "why": choice.reason or None,
        "passed_over": [one.to_json() for one in choice.passed_over],
    }
