"""`explain account`: what tokenferry does with an account, and why."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from tokenferry.accounts import ENVIRONMENT
from tokenferry.broker import Broker
from tokenferry.cli._describe import row
from tokenferry.cli._home import MIN_TTL
from tokenferry.credentials import ExchangedToken, FederatedToken, OAuthToken
from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError
from tokenferry.readiness import AccountRow, account_details
from tokenferry.refresh import seconds_left, window
from tokenferry.settings import Home
from tokenferry.units import moment, span

_WIDTH: Final = 13
_ENDED: Final = frozenset(("needs-login", "copied", "locked", "broken"))


class DecisionView(Struct, frozen=True):
    """How an account is resolved. `steps` has a line for each topic, in the order in which tokenferry looks at them."""

    row: AccountRow
    place: str
    chosen: str
    steps: Mapping[str, str]
    windows: dict[str, float] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    cooldowns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "account": self.row.to_json(),
            "place": self.place,
            "chosen": self.chosen,
            "steps": dict(self.steps),
            "windows": self.windows,
            "published": list(self.published),
            "cooldowns": list(self.cooldowns),
        }

    def lines(self) -> Iterator[str]:
        yield f"account {self.row.name}: {self.row.text}"
        yield f"{'kept in':<{_WIDTH}}{self.place}"
        yield f"{'chosen':<{_WIDTH}}{self.chosen}"
        for topic, step in self.steps.items():
            yield f"{topic:<{_WIDTH}}{step}"
        for name, length in self.windows.items():
            yield f"{name:<{_WIDTH}}{length:.0f} s"
        for label, found in (("published", self.published), ("cooldown", self.cooldowns)):
            for one in found or ("none",):
                yield f"{label:<{_WIDTH}}{one}"


def choice(broker: Broker) -> tuple[str | None, str]:
    """The account used if a command names none, and the reason."""
    try:
        name = broker.book.choose(None)
    except TokenferryError as fault:
        return None, str(fault)
    if os.environ.get("TOKENFERRY_ACCOUNT"):
        reason = "TOKENFERRY_ACCOUNT names it"
    elif broker.book.active() == name:
        reason = "it is in use"
    else:
        reason = "it is the only one"
    try:
        is_variable = broker.book.read(name).account.store == ENVIRONMENT
    except TokenferryError as fault:
        return name, f"{reason}, though it can't be used: {fault}"
    return name, "there is no account yet, and that variable stands in for one" if is_variable else reason


def decision(broker: Broker, home: Home, name: str) -> DecisionView:
    """Explain an account. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
    now = time.time()
    found = row(broker, name, now)
    steps = dict(_steps(broker, found, now))
    token = found.credential
    windows: dict[str, float] = {}
    if isinstance(token, OAuthToken) and token.is_renewable and _owner(found) == "tokenferry":
        windows = {
            "advisory": window(token, broker.settings.advisory),
            "mandatory": window(token, broker.settings.mandatory),
        }
    place = dict(account_details(found, broker))["kept in"]
    published = tuple(
        f"profile {one.publication.profile}: {one.standing.text}"
        for one in broker.publisher.published()
        if one.publication.account == name
    )
    return DecisionView(
        found, place, _chosen(broker, name), steps, windows, published, tuple(_cooldowns(home, found, now))
    )


def _owner(found: AccountRow) -> str:
    assert found.document is not None
    return found.document.account.owner


def _chosen(broker: Broker, name: str) -> str:
    chosen, reason = choice(broker)
    if chosen == name:
        return f"also where no account is named: {reason}"
    return "only when it is named" + (f"; otherwise it is {chosen}: {reason}" if chosen else "")


def _steps(broker: Broker, found: AccountRow, now: float) -> Iterator[tuple[str, str]]:
    document = found.document
    assert document is not None
    account, token = document.account, document.credential
    provider = broker.providers.get(account.provider)
    if provider is None:
        yield "provider", found.text
        return
    yield "provider", f"{provider.name}, for {token.endpoint or provider.base_url}"
    if not broker.bills_subscription(account, token):
        yield "policy", "not billed to a Claude subscription, so it may be used"
    elif broker.policy.subscriptions == "claude-code-only":
        yield (
            "policy",
            'billed to a Claude subscription, and [policy] subscriptions = "claude-code-only" limits it to Claude Code',
        )
        return
    else:
        yield "policy", 'billed to a Claude subscription, and [policy] subscriptions = "own-use" allows its use here'
    yield from _renewal(broker, found, token if isinstance(token, OAuthToken) else None, now)


def _renewal(broker: Broker, found: AccountRow, token: OAuthToken | None, now: float) -> Iterator[tuple[str, str]]:
    if token is None:
        yield "renewal", "it can't be refreshed, and is used as it is"
        return
    owner = _owner(found)
    if owner == "tokenferry":
        yield "owner", "tokenferry refreshes it, one process at a time"
        if isinstance(token, FederatedToken):
            yield "identity", f"the identity token in {token.federation.source} is exchanged each time"
        elif isinstance(token, ExchangedToken):
            declared = broker.provider_of(found.document.account).endpoints.token_exchange if found.document else None
            where = (declared and declared.url) or "nowhere: its provider no longer declares token_exchange"
            yield "exchange", f"its long-lived token (fingerprint {token.subject.fingerprint}) is exchanged at {where}"
    else:
        when = (
            "only when it has expired or was refused, under that program's locks" if owner == "claude-code" else "never"
        )
        yield "owner", f"its token family belongs to {owner}; tokenferry refreshes it {when}"
    left = seconds_left(token, now)
    if found.state in _ENDED or found.state in {"backing-off", "uncertain", "refreshing"}:
        yield "renewal", found.text
    elif owner != "tokenferry" or not token.is_renewable:
        yield "renewal", found.text if left <= 0 else "it is fresh, and used as it is"
    else:
        yield "renewal", _plan(broker, token, left)


def _plan(broker: Broker, token: OAuthToken, left: float) -> str:
    advisory, mandatory = (window(token, length) for length in (broker.settings.advisory, broker.settings.mandatory))
    if left <= mandatory:
        return "it is refreshed before it is used, and callers wait for that"
    if left <= advisory:
        return f"it is used for the {span(left)} it has left, while one caller refreshes it"
    if left <= window(token, MIN_TTL):
        return f"it is fresh for {span(left)}; tokenferry token, which wants {span(MIN_TTL)}, refreshes it first"
    if left == float("inf"):
        return "it has no known expiry, and is used as it is"
    return f"it is fresh, and used as it is; refreshed from {moment(int(time.time() + left - advisory))} on"


def _cooldowns(home: Home, found: AccountRow, now: float) -> Iterator[str]:
    """Why requests may skip the account."""
    document = found.document
    if document is None or not has_state(home):
        return
    names = {("account", found.name), ("provider", document.account.provider)}
    organization = getattr(document.credential, "organization_id", None)
    if organization:
        names.add(("organization", organization))
    with open_state(home) as state:
        if (learned := state.organizations.all().get(found.name)) is not None:
            names.add(("organization", learned))
        for one in state.cooldowns.list():
            if (one.scope.kind, one.scope.name) in names and not one.is_over(now):
                until = moment(one.until) if one.until else "an unknown time"
                models = f" for models of {one.scope.family}" if one.scope.family else ""
                yield f"{one.cause} of its {one.scope.kind}{models} until {until}, says {one.source}"
