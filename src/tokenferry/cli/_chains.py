"""The order in which a program looks for credentials, with the accounts of tokenferry that appear in it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts import ENVIRONMENT
from tokenferry.broker import Broker
from tokenferry.claude_code.precedence import Chain, CredentialOrigin, Held
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.settings import Home
from tokenferry.state import read_local_key
from tokenferry.units import moment

_TITLES: Final = {
    "sdk": "the official SDKs: what a client sends that is made without arguments",
    "claude-code": "Claude Code, started in this folder",
}
_WIDTH: Final = 24
_LATEST: Final = 4_102_444_800


class KnownSources(Struct, frozen=True):
    """The owner of each credential, and the account of each refresh token that tokenferry uses, by sha256."""

    owners: Mapping[str, str]
    chains: Mapping[str, str]


def known_accounts(broker: Broker, home: Home) -> KnownSources:
    """The credentials in tokenferry's files. Unreadable ones are left out."""
    owners: dict[str, str] = {}
    chains: dict[str, str] = {}
    for account in broker.book.listing().accounts:
        try:
            credential = broker.book.read(account.name).credential
        except TokenferryError:
            continue
        if account.store != ENVIRONMENT:
            owners[credential.secret.sha256] = f"account {account.name}"
        if isinstance(credential, OAuthToken) and credential.refresh and account.owner == "tokenferry":
            chains[credential.refresh.sha256] = account.name
    try:
        key = read_local_key(home)
    except TokenferryError:
        key = None
    return KnownSources({**owners, key.sha256: "the gateway's local key"} if key else owners, chains)


def with_clones(chain: Chain, known: KnownSources) -> Chain:
    """Add a warning to every login that shares its refresh token with an account that tokenferry refreshes."""
    clones = tuple(
        f"{source.name} ({source.where}) has the refresh token of account {known.chains[source.refresh]}: the first "
        "to refresh it logs the other out; log in again with one of them"
        for source in chain.sources
        if source.refresh is not None and source.refresh in known.chains
    )
    return replace(chain, warnings=(*chain.warnings, *clones)) if clones else chain


def chain_to_json(chain: Chain, known: KnownSources) -> dict[str, Any]:
    """The chain without secrets; times in seconds since 1970 UTC."""
    winner = chain.winner
    return {
        "program": chain.program,
        "winner": winner and winner.name,
        "sends": dict(chain.sends),
        "base_url": chain.base_url,
        "base_url_from": chain.base_url_from,
        "sources": [_source_to_json(source, known) for source in chain.sources],
        "warnings": list(chain.warnings),
    }


def _source_to_json(source: CredentialOrigin, known: KnownSources) -> dict[str, Any]:
    held = source.held
    return {
        "name": source.name,
        "where": source.where,
        "state": source.state,
        "reason": source.reason,
        "kind": held and held.kind,
        "fingerprint": held and held.fingerprint,
        "expires_at": held and _expiry(held),
        "account": held and known.owners.get(held.digest),
        "problems": list(source.problems),
    }


def lines_of(chain: Chain, known: KnownSources) -> Iterator[str]:
    """The chain as lines for people: a mark at the used source, remarks below it."""
    yield _TITLES[chain.program]
    for source in chain.sources:
        mark = "*" if source is chain.winner else " "
        yield f"{mark} {source.name:<{_WIDTH}}{source.state:<10}{source.reason}".rstrip()
        if source.held is not None:
            held = source.held
            expires_at = _expiry(held)
            expiry = "" if expires_at is None else f", expires {moment(expires_at)}"
            owner = f", {known.owners[held.digest]}" if held.digest in known.owners else ""
            yield f"{'':<{_WIDTH + 12}}{held.kind} {held.fingerprint}{expiry}{owner}; in {source.where}"
        elif source.state not in {"absent", "unseen"}:
            yield f"{'':<{_WIDTH + 12}}in {source.where}"
        for problem in source.problems:
            yield f"{'':<{_WIDTH + 12}}but: {problem}"
    yield f"= {summary(chain)}"
    for warning in chain.warnings:
        yield f"! {warning}"


def _expiry(held: Held) -> int | None:
    """Expiry in seconds since 1970 UTC; None for never, and for an invalid time, which `problems` reports."""
    return held.expires_at if held.expires_at and 0 < held.expires_at <= _LATEST else None


def summary(chain: Chain) -> str:
    """The credential that the program uses and the address it sends it to, in one line."""
    winner = chain.winner
    if winner is None:
        return "it finds no credential"
    if winner.state == "fails":
        return f"it stops at {winner.name}, and nothing is sent"
    to = f"{chain.base_url or 'nowhere'} ({chain.base_url_from})"
    own = [header for header, name in chain.sends.items() if name == winner.name]
    others = [f"; {header} is from {name}" for header, name in chain.sends.items() if name != winner.name]
    how = f"is sent in {' and '.join(own)}" if own else "is used"
    return f"{winner.name} {how}, to {to}{''.join(others)}"
