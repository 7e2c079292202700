"""Find the owner of another program's login: by the account it names, by our records, by its tokens."""

from collections.abc import Callable, Iterable, Mapping

from tokenferry.claude_code import digest
from tokenferry.credentials import OAuthToken
from tokenferry.errors import NeedsUnlock, TokenferryError
from tokenferry.stores import ACCOUNT_NAME, FileStore, are_different


def logins(files: FileStore) -> dict[str, OAuthToken]:
    """The OAuth logins among our own documents, by account; broken ones are left out. Raises `NeedsUnlock`."""
    found: dict[str, OAuthToken] = {}
    for name in files.names():
        try:
            credential = files.read(name).credential
        except NeedsUnlock:
            raise  # a login that can't be read now may be the same one
        except TokenferryError:
            continue
        if isinstance(credential, OAuthToken):
            found[name] = credential
    return found


def of_the_same(token: OAuthToken, known: Mapping[str, OAuthToken]) -> list[str]:
    """Our accounts of the vendor's account that this login names."""
    return [name for name, other in known.items() if _is_the_same(token, other)]


def owner_of(
    token: OAuthToken, recorded: str | None, known: Mapping[str, OAuthToken], is_dead: Callable[[str], bool]
) -> str | None:
    """The account with this token family; None if none of ours has it.

    `recorded` is the account whose login was last known to be there. A working login of the same account, but of
    another token family, isn't replaced by this one.
    """
    if recorded is not None and not (recorded in known and are_different(token, known[recorded])):
        return recorded
    twins = [name for name, other in known.items() if name != recorded and digest(other) == digest(token)]
    return next(iter((*twins, *filter(is_dead, of_the_same(token, known)))), None)


def new_name(token: OAuthToken, known: Mapping[str, OAuthToken], taken: Iterable[str]) -> str:
    """A name for a new account of this login: its e-mail address, if that is known and free."""
    used = {name.casefold() for name in taken}
    emails = [token.email, *(known[name].email for name in of_the_same(token, known))]
    for email in filter(None, emails):
        if ACCOUNT_NAME.fullmatch(email) and email.casefold() not in used:
            return email
    number, name = 1, "claude-code"
    while name in used:
        number += 1
        name = f"claude-code-{number}"
    return name


def _is_the_same(one: OAuthToken, other: OAuthToken) -> bool:
    return bool(one.account_id) and one.account_id == other.account_id and not are_different(one, other)
