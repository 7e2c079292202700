import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer

from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import note, say_json
from tokenferry.cli._services import ask_route
from tokenferry.cli._table import labelled
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import Config
from tokenferry.databases import open_state
from tokenferry.errors import UnknownName, UsageError
from tokenferry.pool import affinity_key
from tokenferry.readiness import (
    ANYONE,
    RouteExplanation,
    RouteQuestion,
    budgets_now,
    explain_route,
    pool_of,
    resolver_of,
    unusable_accounts,
    within_budgets,
)
from tokenferry.routing import BodyFacts, Malformed, RouteRequest, scan, with_members
from tokenferry.settings import Home
from tokenferry.state import ClientKey, State
from tokenferry.units import moment

app = new_app()

_LIMIT: Final = 32 * 1024 * 1024
_SESSION: Final = "x-claude-code-session-id"
_CREDENTIALS: Final = frozenset({"authorization", "x-api-key", "x-goog-api-key", "x-tokenferry-key"})
_OK: Final = 200


@app.command(
    "route",
    epilog=examples(
        "tokenferry explain route",
        "tokenferry explain route --model claude-opus-4-5",
        "tokenferry explain route --body request.json --header 'x-team: research'",
        "tokenferry explain route --session 7f3a1c02-8f55-4a4e-9d3a-0c7e2b1f4d66 --json",
    ),
)
def route(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", hidden=True)] = False,  # noqa: ARG001  # old; nothing is ever sent
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The requested model.", show_default=False)
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--body", metavar="FILE", help="The request's body; - for stdin.", show_default=False)
    ] = None,
    wire_format: Annotated[
        Literal["anthropic", "openai", "openai-responses", "gemini"],
        typer.Option("--format", help="The request's API."),
    ] = "anthropic",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="LINE", help="A request header; may be repeated.", show_default=False),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="The request's session.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="The client key, by name or id; by default this machine's."),
    ] = None,
    as_json: JSON = False,
) -> int:
    """Show which rule applies to a request, which account would serve it, and why no other.

    A running gateway of this home answers, because it knows usage, load and sessions. Without one, the home's files
    answer. The first line names the source.
    """
    home, config = find()
    facts, lines = _facts(model, body, is_geminis=wire_format == "gemini"), _headers(header or [])
    if session:
        lines.append((_SESSION, session))
    shown = tuple((name, value) for name, value in lines if name not in _CREDENTIALS)
    question = RouteQuestion(facts.body.decode(), shown, key, wire_format)
    if answer := ask_route(home, question):
        record, found = answer
        worker = "" if found.worker is None else f", worker {found.worker}, which knows no other worker's sessions"
        asked = f"the running gateway (pid {record.pid}{worker})"
    else:
        found, asked = _by_records(home, config, facts, question), f"the records in {home.path}"
    if as_json:
        say_json([{**one, "asked": asked} for one in found.to_json()])
    else:
        labelled(_lines(found, asked), 10)
        if found.status == 400 and model is None and body is None:  # noqa: PLR2004  # Bad Request
            note("name the model with: tokenferry explain route --model MODEL")
    return 1 if found.refused else 0


def _by_records(home: Home, config: Config, facts: BodyFacts, asked: RouteQuestion) -> RouteExplanation:
    broker = open_broker(home, config)
    session = dict(asked.headers).get(_SESSION, "")
    headers = [(name.encode(), value.encode()) for name, value in asked.headers]
    with open_state(home) as state:
        client = _client(state, asked.key)
        found = explain_route(
            resolver_of(config, broker),
            pool_of(config, state),
            RouteRequest(facts, headers, wire_format=asked.wire_format),
            client,
            affinity=affinity_key(client.id, session=session),
            providers=broker.providers,
            listing=broker.book.listing(),
            unusable=unusable_accounts(broker, {row.name: row.state for row in rows(broker)}),
            last_account=state.decisions.last_account_of(session) if session else None,
        )
    return within_budgets(found, budgets_now(home, config, [client]), time.time())


def _client(state: State, name: str | None) -> ClientKey:
    """The client key; without a name a stand-in for this machine's own, which the first `serve` creates."""
    try:
        return state.keys.get(name or ANYONE.name)
    except UnknownName:
        if name is not None:
            raise
    return ANYONE


def _facts(model: str | None, body: Path | None, *, is_geminis: bool) -> BodyFacts:
    if body is None:
        content = msgspec.json.encode({} if model is None else {"model": model})
    elif model is not None and not is_geminis:
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
        if model is not None:  # some formats have the model in the address
            content, _ = with_members(content, {"model": model})
    facts = scan([content])
    if isinstance(facts, Malformed):
        raise UsageError(f"{facts.message} (the gateway would answer 400)")
    return facts


def _headers(lines: Sequence[str]) -> list[tuple[str, str]]:
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(f"{line[:80]!r} is not a header; write it as NAME: VALUE")
        headers.append((name.strip().lower(), value.strip()))
    return headers


def _lines(found: RouteExplanation, asked: str) -> Iterator[tuple[str, str]]:
    yield "asked", asked
    if found.refused:
        yield "refused", f"{found.status}: {found.refused}"
        yield from (("budget", one) for one in found.budgets)
        return
    yield "rule", found.plan
    if found.limits:
        yield "limits", f"its client key may ask for {found.limits}"
    yield from (("budget", one) for one in found.budgets)
    if not found.targets:
        yield "no account", "none may serve this request"
    has_served = False
    for target in found.targets:
        model = f", model {target.model}" if target.model else ""
        yield "provider", f"{target.provider}{model}"
        if target.account is not None:
            verb = "would be next if all before it failed" if has_served else "would serve"
            yield "account", f"{target.account} {verb}: {target.why}"
            has_served = True
        elif target.why is not None:
            yield "unfit", target.why
        for one in target.passed_over:
            until = "" if one.until is None else f", until {moment(one.until)}"
            yield "account", f"{one.account} not: {one.reason.removesuffix('.')}{until}"
    if found.targets and found.status != _OK:
        yield (
            "answer",
            f"the client would get {found.status}, which says so (it is {moment(int(time.time()))})",
        )
