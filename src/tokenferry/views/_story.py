"""The story of one request, and the parts of a session."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field

from tokenferry.budgets import SpendingLimit
from tokenferry.errors import UnknownName
from tokenferry.ledger import TrafficRow
from tokenferry.state import Decision, State
from tokenferry.units import moment, span
from tokenferry.views._books import LedgerReader
from tokenferry.views._traffic import RunningRequest

_BY_ORDER: Final = "the first, in their order, that has a credential"
_QUEUED: Final = "every account has as many requests as it may have"
_WHAT: Final = {
    "unsent": "could not be reached",
    "lost": "was sent the request, and its answer was lost",
    "unavailable": "has no credential",
    "queued": f"waits: {_QUEUED}",
}
_ANSWERS: Final = frozenset(("answered", "served"))
_NEXT: Final = {
    "choose": "on to the next account",
    "again": "once more in place",
    "renew": "once more with another token",
    "sibling": "on to one other account",
    "provider": "on to the next provider",
    "give": "the client gets that",
}


class RequestStory(Struct, frozen=True):
    """What is stored about a request: its decision, its usage, or both."""

    request_id: str
    facts: tuple[tuple[str, str], ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    """The events in order, each with the time since the request began."""
    row: TrafficRow | None = None
    waited_ms: int = 0
    """The milliseconds it waited here before attempts."""


class SessionStory(Struct, frozen=True):
    """A session's latest requests, oldest first, and their sums."""

    session: str
    rows: tuple[TrafficRow, ...]
    accounts: Mapping[str, int] = field(default_factory=dict)
    """The number of requests that each account served, in order of the first."""
    models: Mapping[str, int] = field(default_factory=dict)
    agents: tuple["AgentShare", ...] = ()
    """The session's own requests, then each sub-agent below the one that started it."""

    @property
    def tokens(self) -> int:
        return sum(row.tokens or 0 for row in self.rows)

    @property
    def cost(self) -> int:
        """The cost at list prices, in micro-dollars, including what plans cover."""
        return sum(row.cost for row in self.rows)

    @property
    def failed(self) -> int:
        return sum(row.is_failed for row in self.rows)


class AgentShare(Struct, frozen=True):
    """The usage of one agent of a session."""

    agent: str
    """Empty for the session itself."""
    depth: int
    requests: int
    tokens: int
    cost: int


def request_story(state: State, books: LedgerReader, request_id: str, at_ms: int | None = None) -> RequestStory:
    """Find a request. `at_ms`, when it began, avoids a search through all rows.

    Raises `UnknownName` if nothing is stored about it, and what reading raises.
    """
    decision, traffic = state.decisions.get(request_id), books.traffic()
    if at_ms is None and decision is not None:
        at_ms = decision.at * 1000
    row = None if traffic is None else traffic.request(request_id, at_ms)
    if decision is None and row is None:
        raise UnknownName(f"nothing is stored about request {request_id[:80]!r}; look for it in the gateway's log")
    lines = [] if decision is None else [*story_lines(decision)]
    steps = tuple(line for line in lines if line[0].startswith("+"))
    waited = 0 if decision is None else sum(wait for wait, *_ in _waits(decision.content.get("steps") or ()).values())
    return RequestStory(request_id, tuple(line for line in lines if line not in steps), steps, row, waited)


def running_story(one: RunningRequest, now: float) -> RequestStory:
    """Return what is known about a running request. `now` is in seconds since 1970 UTC."""
    names = (("key", one.key), ("model", one.model), ("account", one.account), ("provider", one.provider))
    stage = ("in flight", f"it {one.stage}; it began {span(max(now - one.at, 0))} ago")
    tries = ("tries", f"sent {one.attempts} times") if one.attempts > 1 else ("", "")
    return RequestStory(one.request_id, tuple(pair for pair in (stage, *names, tries) if pair[1]))


def session_story(books: LedgerReader, session: str) -> SessionStory:
    """Find a session. Raises `UnknownName` if no request of it is stored, and what reading raises."""
    traffic = books.traffic()
    rows = [] if traffic is None else traffic.session(session)
    if not rows:
        raise UnknownName(f"no request of session {session[:80]!r} is stored")
    accounts: dict[str, int] = {}
    models: dict[str, int] = {}
    for row in rows:
        if row.account:
            accounts[row.account] = accounts.get(row.account, 0) + 1
        if row.model:
            models[row.model] = models.get(row.model, 0) + 1
    return SessionStory(session, tuple(rows), accounts, models, tuple(_agents(rows)))


def _agents(rows: list[TrafficRow]) -> Iterator[AgentShare]:
    shares: dict[str, list[TrafficRow]] = {"": []}
    for row in rows:
        shares.setdefault(row.agent, []).append(row)
    parents = {row.agent: row.parent if row.parent in shares else "" for row in rows}
    listed: set[str] = set()

    def from_(agent: str, depth: int) -> Iterator[AgentShare]:
        listed.add(agent)
        mine = shares[agent]
        yield AgentShare(agent, depth, len(mine), sum(row.tokens or 0 for row in mine), sum(row.cost for row in mine))
        for other in shares:
            if other not in listed and parents[other] == agent:
                yield from from_(other, depth + 1)

    yield from from_("", 0)
    for agent in shares:
        if agent not in listed:  # agents that claim to have started each other
            yield from from_(agent, 1)


def story_lines(decision: Decision) -> Iterator[tuple[str, str]]:
    """Yield a request's story as pairs of heading and sentence; a step's heading is its time."""
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
    yield from _steps(steps or ())
    for attempt in content.get("attempts", ()) if steps is None else ():
        answer = "no answer" if attempt["status"] is None else f"answered {attempt['status']}"
        yield "attempt", f"{attempt['account']} with {attempt['fingerprint']}: {answer}"
    error = f", {content['error']}" if content.get("error") else ""
    yield "result", f"{content['status']} after {content['ms']} ms{error}"
    if content.get("message"):
        yield "message", content["message"]


def _accounts(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every account that could have served, and what happened with it."""
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


def _waits(steps: Sequence[dict[str, Any]]) -> dict[int, tuple[int, str]]:
    """Return the waits in milliseconds, with the reasons, by the step that begins with each."""
    found: dict[int, tuple[int, str]] = {}
    for at, step in enumerate(steps):
        if step["what"] == "queued" and at + 1 < len(steps):
            found[at] = steps[at + 1]["ms"] - step["ms"], _QUEUED
        elif step.get("wait_ms"):
            found[at] = step["wait_ms"], step.get("wait_why") or "before the next attempt"
    return found


def _steps(steps: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield every step with its time; a wait has its own line, and an answer its duration."""
    waits, sent, last = _waits(steps), 0, ""
    for at, step in enumerate(steps):
        begins = step["ms"]
        if at in waits:
            wait, why = waits[at]
            yield f"+{begins} ms", f"waits {_duration(wait)}: {why}"
            begins += wait
        if step["what"] == "tried":
            again, sent, last = step["account"] == last, begins, step["account"]
            yield f"+{begins} ms", _step(step | {"why": "once more"} if again else step)
        elif step["what"] != "queued" or at not in waits:
            took = begins - sent if step["what"] in _ANSWERS and last else 0
            yield f"+{begins} ms", _step(step) + (f" (the provider took {_duration(took)})" if took > 0 else "")


def _duration(ms: int) -> str:
    """Format a duration for a request's story."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"  # noqa: PLR2004  # a second


def _step(step: dict[str, Any]) -> str:
    """Describe one step of the request."""
    account, token = step.get("account", ""), f" with {step['fingerprint']}" if step.get("fingerprint") else ""
    match step["what"]:
        case "tried":
            probe = "probing " if step.get("probe") else ""
            model = f", model {step['model']}" if step.get("model") else ""
            return f"{probe}{account}{model}: {step['why']}"
        case "answered":
            text = f"{account}{token} answered {step['status']}: {step['means'].rstrip('.')}"
        case "not renewed":
            text = f"{account} has no other token: {step['why']}"
        case "served":
            return f"{account}{token} answered {step.get('status', 200)}, which went to the client"
        case "unsent" | "lost" | "unavailable" as what:
            text = f"{account}{token} {_WHAT[what]}: {step['why']}"
        case "refused":
            return f"refused with {step['status']}"
        case what:
            return _WHAT.get(what, str(what))
    return f"{text}{_benched(step.get('benched'))}; {_NEXT.get(step.get('plan', ''), 'over')}"


def _benched(benched: dict[str, Any] | None) -> str:
    if benched is None:
        return ""
    models = f", models of {benched['family']}" if benched["family"] else ""
    until = f"until {moment(benched['until'])}" if benched["until"] else "until it is cleared"
    return f"; {benched['kind']} {benched['name']}{models} is in cooldown {until}"
