"""Which account a login belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from tokenferry.credentials import Credential, Kind, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.stores import Document, are_different, check_account_name

_LONGEST: Final = 64
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._@+-]+")


def check_wanted(name: str, provider: str, kind: Kind, documents: Mapping[str, Document], taken: Iterable[str]) -> None:
    """Raise `UsageError` unless a login at the provider could be kept under this name."""
    check_account_name(name)
    twin = next((other for other in taken if other.casefold() == name.casefold() and other != name), None)
    if twin is not None:
        raise UsageError(f"account {twin!r} exists, and {name!r} differs in case alone; use another name")
    held = documents.get(name)
    if held is None:
        return
    account = held.account
    if account.store != "file" or account.owner != "tokenferry":
        whose = account.store if account.store != "file" else account.owner
        raise UsageError(f"account {name!r} is the login of {whose}, which keeps it itself; use another name")
    if (account.provider, account.kind) != (provider, kind):
        raise UsageError(
            f"account {name!r} holds an {account.kind} of provider {account.provider!r}; use another name, or remove "
            f"it first with: tokenferry accounts remove {name}"
        )


def account_for(
    login: Credential, email: str | None, provider: str, wanted: str | None, documents: Mapping[str, Document]
) -> tuple[str, bool]:
    """The account to keep a login under, and whether it is there and known to be the same person's.

    That is the one of this person, whatever is wanted; else the one wanted; else a new one called by e-mail address.
    `documents` are all that can be read. Raises `UsageError` if the one wanted is another person's.
    """
    known = [name for name, held in documents.items() if _is_same(held, login, provider)]
    if known:
        return (wanted if wanted in known else known[0]), True
    if wanted is None:
        return _free_name(email, provider, {name.casefold() for name in documents}), False
    held = documents.get(wanted)
    if held is not None and _are_known_apart(held.credential, login):
        raise UsageError(
            f"account {wanted!r} is {_who(held.credential)}, and this login is {_who(login)}; nothing was changed: use "
            "another name"
        )
    return wanted, False


def _is_same(held: Document, login: Credential, provider: str) -> bool:
    old, account = held.credential, held.account
    if account.provider != provider or account.store != "file" or account.owner != "tokenferry":
        return False
    if not isinstance(old, OAuthToken) or not isinstance(login, OAuthToken) or are_different(old, login):
        return False
    return bool(old.account_id and old.account_id == login.account_id) or _have_one_email(old, login)


def _are_known_apart(old: Credential, login: Credential) -> bool:
    if not isinstance(old, OAuthToken) or not isinstance(login, OAuthToken):
        return False
    return are_different(old, login) or bool(old.email and login.email and not _have_one_email(old, login))


def _have_one_email(old: OAuthToken, login: OAuthToken) -> bool:
    return bool(old.email and login.email) and str(old.email).casefold() == str(login.email).casefold()


def _who(credential: Credential) -> str:
    email = credential.email if isinstance(credential, OAuthToken) else None
    return email or "somebody else's"


def _free_name(email: str | None, provider: str, taken: set[str]) -> str:
    """A name that no account has, in any case: the e-mail address, then with the provider, then with a number."""
    base = _valid(email or "") or _valid(provider) or "login"
    names = [base, *([_joined(base, provider)] if email else [])]
    free = next((name for name in names if name.casefold() not in taken), None)
    number = 2
    while free is None:
        candidate = _joined(base, str(number))
        free = None if candidate.casefold() in taken else candidate
        number += 1
    return free


def _joined(base: str, end: str) -> str:
    end = f"-{_valid(end)}"[: _LONGEST // 2]
    return base[: _LONGEST - len(end)] + end


def _valid(text: str) -> str:
    return _FOREIGN.sub("-", text).lstrip("._@+-")[:_LONGEST]
