"""Decides which account a login belongs to."""

import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from tokenferry.credentials import Credential, FederatedToken, Kind, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.stores import Document, check_account_name, refuse_twin

ORIGIN: Final = "origin"
"""The key of a document under which it says where its account was imported from."""

_LONGEST: Final = 64
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._@+-]+")
_UNKNOWN: Final = "another person's"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class _Person(Struct, frozen=True):
    email: str | None
    account_id: str | None
    organization_id: str | None


def identity_labels(token: OAuthToken) -> dict[str, str]:
    """Return the login's owner as labels, for a credential that can't hold that itself."""
    person = {name: getattr(token, name) for name in _Person.__struct_fields__}
    return {name: value for name, value in person.items() if value}


def has_credential(document: Document, credential: Credential) -> bool:
    """Whether an account has the same credential; of a login, the same refresh token, now or when it was imported."""
    refresh = getattr(credential, "refresh", None)
    if refresh is None:
        return document.credential.secret.sha256 == credential.secret.sha256
    held, origin = getattr(document.credential, "refresh", None), document.unknown.get(ORIGIN)
    imported = origin.get("refresh") if isinstance(origin, Mapping) else None
    return refresh.sha256 in {held and held.sha256, imported}


def without_identity(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that an account keeps when its credential is replaced."""
    return {name: value for name, value in labels.items() if name not in _Person.__struct_fields__}


def check_wanted(name: str, provider: str, kind: Kind, documents: Mapping[str, Document], taken: Iterable[str]) -> None:
    """Raise `UsageError` unless a login at the provider can be stored under this name."""
    check_account_name(name)
    refuse_twin(name, taken)
    held = documents.get(name)
    if held is None:
        return
    account = held.account
    if account.store != "file" or account.owner != "tokenferry":
        whose = account.store if account.store != "file" else account.owner
        raise UsageError(f"account {name!r} is the login of {whose}, which stores it itself; use another name")
    if account.kind == FederatedToken.kind:
        raise UsageError(
            f"account {name!r} has a workload's identity and no login; use another name, or renew it with: tokenferry "
            f"refresh {name}"
        )
    if (account.provider, account.kind) != (provider, kind):
        raise UsageError(
            f"account {name!r} holds an {account.kind} of provider {account.provider!r}; use another name, or remove "
            f"it first with: tokenferry account remove {name}"
        )


def account_for(
    login: OAuthToken,
    email: str | None,
    provider: str,
    wanted: str | None,
    documents: Mapping[str, Document],
    *,
    kind: Kind = "oauth",
) -> tuple[str, bool]:
    """Return the account for a login, and whether it exists and is known to be the same person's.

    It is this person's present account, else the one wanted, else a new one named by e-mail address. `documents` are
    all readable ones; `kind` is what the login is to become. Raises `UsageError` if the one wanted is another person's.
    """
    person = _person(login, _NOTHING)
    known = [name for name, held in documents.items() if _is_same(held, person, provider, kind)]
    if known:
        return (wanted if wanted in known else known[0]), True
    if wanted is None:
        return _name_of(email, provider, {name.casefold() for name in documents}), False
    held = documents.get(wanted)
    if held is not None:
        there = _person(held.credential, held.account.labels)
        if _are_different(there, person) or bool(there.email and email and not _have_one_email(there, person)):
            raise UsageError(
                f"account {wanted!r} is {there.email or _UNKNOWN}, and this login is {person.email or _UNKNOWN}; "
                "nothing was changed: use another name"
            )
    return wanted, False


def _person(credential: Credential, labels: Mapping[str, str]) -> _Person:
    if isinstance(credential, OAuthToken):
        return _Person(credential.email, credential.account_id, credential.organization_id)
    return _Person(*(labels.get(name) for name in _Person.__struct_fields__))


def _is_same(held: Document, person: _Person, provider: str, kind: Kind) -> bool:
    account = held.account
    if (account.provider, account.kind) != (provider, kind) or account.store != "file" or account.owner != "tokenferry":
        return False
    there = _person(held.credential, account.labels)
    if _are_different(there, person):
        return False
    return bool(there.account_id and there.account_id == person.account_id) or _have_one_email(there, person)


def _are_different(one: _Person, other: _Person) -> bool:
    pairs = ((one.account_id, other.account_id), (one.organization_id, other.organization_id))
    return any(left and right and left != right for left, right in pairs)


def _have_one_email(one: _Person, other: _Person) -> bool:
    return bool(one.email and other.email) and str(one.email).casefold() == str(other.email).casefold()


def _name_of(email: str | None, provider: str, taken: set[str]) -> str:
    """Return a free name: the e-mail address, else with the provider, else with a number."""
    base = valid_name(email or "") or valid_name(provider) or "login"
    longer = _joined(base, valid_name(provider))
    return longer if email and base.casefold() in taken and longer.casefold() not in taken else free_name(base, taken)


def free_name(base: str, taken: set[str]) -> str:
    """Return `base`, or if it is taken, `base` with the lowest free number. `taken` holds case-folded names."""
    names = chain([base], (_joined(base, str(number)) for number in count(2)))
    return next(name for name in names if name.casefold() not in taken)


def valid_name(text: str) -> str:
    """Return the text as an account's name, without what no name can hold; empty if nothing is left."""
    return _FOREIGN.sub("-", text).lstrip("._@+-")[:_LONGEST].rstrip("-")


def _joined(base: str, end: str) -> str:
    end = f"-{end}"[: _LONGEST // 2]
    return base[: _LONGEST - len(end)] + end
