import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from tokenferry.broker import Broker
from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import moment, say, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import Config
from tokenferry.errors import ConfigError, UnknownName, UsageError
from tokenferry.pool import Choice, Hop, Pool, Want, affinity_key, roster_of
from tokenferry.routing import BodyFacts, Malformed, NoRoute, Route, Router, scan
from tokenferry.state import ClientKey, State

app = new_app()

_LOCAL: Final = "local"
_LIMIT: Final = 32 * 1024 * 1024
_UNUSABLE: Final = frozenset({"needs-login", "copied", "locked", "broken"})


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
        found = Router(config.router, config.models, config.providers).route(
            facts,
            defaults=lambda: _defaults(config, broker),
            headers=_headers(header or []),
            key=client.name,
            size=len(facts.body),
        )
        if isinstance(found, NoRoute):
            _tell_refusal(found, as_json=as_json)
            return 1
        choices = _choices(state, config, broker, found, client=client, session=session or "")
    if as_json:
        say_json([_to_json(found, hop, choice) for hop, choice in choices])
    else:
        say_lines(f"{heading:<10}{text}" for heading, text in _lines(found, choices))
    return 0


def _client(state: State, name: str | None) -> ClientKey:
    """The key; a stand-in for this machine's own, which the first `serve` makes."""
    try:
        return state.keys.get(name or _LOCAL)
    except UnknownName:
        if name is not None:
            raise
    return ClientKey("", _LOCAL, admin=False, created_at=0, fingerprint="")


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
    state: State, config: Config, broker: Broker, route: Route, *, client: ClientKey, session: str
) -> list[tuple[Hop, Choice]]:
    pool = Pool(config.pool)
    present = broker.book.listing().accounts
    found = [(roster_of(broker.providers[one.provider], present), one.model or route.model or "") for one in route.hops]
    hops = [Hop(roster, model) for roster, model in found if roster.members]
    pool.records.adopt(state.cooldowns.list(), state.organizations.all(), 0)
    served = state.decisions.last_account_of(session) if session else None
    rights = client.rights
    accounts = {one.name: one.provider for hop in hops for one in hop.roster.members}
    allowed = frozenset(name for name, provider in accounts.items() if rights.allows_account(name, provider))
    want = Want(affinity_key(client.id, session=session), allowed, rights.pin or config.gateway.account)
    for row in rows(broker):
        if row.state in _UNUSABLE or row.note.startswith("for Claude Code alone"):
            for hop in hops:
                if row.name in hop.roster.by_name:
                    pool.rest(hop.roster.by_name[row.name], row.note or row.text, None)
    if served is not None:
        pool.remember(hops, want, served)
    return [(hop, pool.select(hop, want)) for hop in pool.order(hops)]


def _defaults(config: Config, broker: Broker) -> list[str]:
    """The providers that serve what no `[[models]]` maps, in their order."""
    accounts = broker.book.listing().accounts
    names = config.gateway.providers or tuple(broker.providers)
    rosters = [roster_of(broker.providers[name], accounts) for name in names if broker.providers[name].is_served]
    found = [one for one in rosters if one.members]
    if config.gateway.account is not None:
        return [one.provider for one in found if config.gateway.account in one.by_name]
    if len(found) > 1 and not config.gateway.providers:
        raise ConfigError(
            f"several providers have accounts ({', '.join(one.provider for one in found)}); say in which order they "
            "serve: set providers = [...] under [gateway] in config.toml"
        )
    return [one.provider for one in found]


def _lines(route: Route, choices: Sequence[tuple[Hop, Choice]]) -> Iterator[tuple[str, str]]:
    turned = "" if route.model == route.requested else f", so {route.requested} goes to {route.model}"
    yield "rule", f"{route.rule}: {route.reason}{turned}"
    if not choices:
        yield "nobody", "there is no account that may serve"
    has_served = False
    for hop, choice in choices:
        model = f", model {hop.model}" if hop.model else ""
        yield "provider", f"{hop.roster.provider}{model}"
        if choice.member is not None:
            verb = "would be next, should all before fail" if has_served else "would serve"
            yield "account", f"{choice.member.name} {verb}: {choice.reason}"
            has_served = True
        for one in choice.passed_over:
            until = "" if one.until is None else f", until {moment(one.until)}"
            yield "account", f"{one.account} not: {one.reason.removesuffix('.')}{until}"
    if choices and not has_served:
        yield "nobody", f"the client would be told so, with 429 (it is {moment(int(time.time()))})"


def _to_json(route: Route, hop: Hop, choice: Choice) -> dict[str, Any]:
    return {
        "rule": route.rule,
        "reason": route.reason,
        "requested": route.requested,
        "provider": hop.roster.provider,
        "model": hop.model or None,
        "account": None if choice.member is None else choice.member.name,
        "why": choice.reason or None,
        "passed_over": [one.to_json() for one in choice.passed_over],
    }
