import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from tokenferry.broker import Broker
from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import moment, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import Config
from tokenferry.errors import ConfigError, UsageError
from tokenferry.pool import Choice, Hop, Pool, Want, affinity_key, roster_of
from tokenferry.settings import Home
from tokenferry.state import State

app = new_app()

_UNUSABLE = frozenset({"needs-login", "copied", "broken"})


@app.command(
    "route",
    epilog=examples(
        "tokenferry route --dry-run",
        "tokenferry route --dry-run --model claude-opus-4-5",
        "tokenferry route --dry-run --session 7f3a1c02-8f55-4a4e-9d3a-0c7e2b1f4d66 --json",
    ),
)
def route(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would be done.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="The model that is asked for.", show_default=False)
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="S", help="The session it belongs to, by its id.", show_default=False),
    ] = None,
    key: Annotated[
        str, typer.Option("--key", metavar="NAME", help="The client key it comes with, by name or id.")
    ] = "local",
    as_json: JSON = False,
) -> None:
    """Say which account would serve a request, and why none of the others, by what is on record.

    What a running gateway keeps to itself doesn't count: how much of their limits accounts have used up, whose turn it
    is, and who has as many requests as it may have.
    """
    if not dry_run:
        raise UsageError("route sends nothing; say --dry-run")
    home, config = find()
    broker = open_broker(home, config)
    choices = _choices(home, config, broker, model=model or "", session=session or "", key=key)
    if as_json:
        say_json([_to_json(hop, choice) for hop, choice in choices])
    else:
        say_lines(f"{heading:<10}{text}" for heading, text in _lines(choices))


def _choices(
    home: Home, config: Config, broker: Broker, *, model: str, session: str, key: str
) -> list[tuple[Hop, Choice]]:
    pool = Pool(config.pool)
    hops = _hops(config, broker, model)
    with State(home.state) as state:
        client = state.keys.get(key)
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


def _hops(config: Config, broker: Broker, model: str) -> list[Hop]:
    """The providers in their order."""
    accounts = broker.book.listing().accounts
    names = config.gateway.providers or tuple(broker.providers)
    providers = [broker.providers[name] for name in names if broker.providers[name].enabled]
    hops = [Hop(roster, model) for one in providers if (roster := roster_of(one, accounts)).members]
    if config.gateway.account is not None:
        return [hop for hop in hops if config.gateway.account in hop.roster.by_name]
    if len(hops) > 1 and not config.gateway.providers:
        found = ", ".join(hop.roster.provider for hop in hops)
        raise ConfigError(
            f"several providers have accounts ({found}); say in which order they serve: "
            "set providers = [...] under [gateway] in config.toml"
        )
    return hops


def _lines(choices: Sequence[tuple[Hop, Choice]]) -> Iterator[tuple[str, str]]:
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
            yield "account", f"{one.account} not: {one.reason}{until}"
    if choices and not has_served:
        yield "nobody", f"the client would be told so, with 429 (it is {moment(int(time.time()))})"


def _to_json(hop: Hop, choice: Choice) -> dict[str, Any]:
    return {
        "provider": hop.roster.provider,
        "model": hop.model or None,
        "account": None if choice.member is None else choice.member.name,
        "why": choice.reason or None,
        "passed_over": [one.to_json() for one in choice.passed_over],
    }
