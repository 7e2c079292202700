"""Every error that tokenferry raises, as one tree.

* TokenferryError
  x UsageError
    + InvalidFields
    + Unfit
  x UnreadableAnswer
  x NeedsTerminal
  x ConfigError
  x UnknownName
    + UnknownAccount
    + UnknownProvider
  x NeedsLogin
    + ChainCopied
  x TryLater
    + RefreshBusy
    + RefreshFailed
    + RefreshUncertain
    + LockTimeout
    + KeyCommandFailed
    + NeedsUnlock
  x LoginFailed
  x PolicyRefused
  x CredentialRefused
  x UnsafeFile
  x CorruptFile
    + SealKeyLost
  x StorageFailed
    + StoreAway
  x Conflict

A message is one or two sentences: what happened, where, and the command that fixes it. No message holds a secret.
`exit_code` is the exit code of the command.
"""

TYPE_CHECKING = False  # importing typing is slow
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

__all__ = [
    "ChainCopied",
    "ConfigError",
    "Conflict",
    "CorruptFile",
    "CredentialRefused",
    "InvalidFields",
    "KeyCommandFailed",
    "LockTimeout",
    "LoginFailed",
    "NeedsLogin",
    "NeedsTerminal",
    "NeedsUnlock",
    "PolicyRefused",
    "RefreshBusy",
    "RefreshFailed",
    "RefreshUncertain",
    "SealKeyLost",
    "StorageFailed",
    "StoreAway",
    "TokenferryError",
    "TryLater",
    "Unfit",
    "UnknownAccount",
    "UnknownName",
    "UnknownProvider",
    "UnreadableAnswer",
    "UnsafeFile",
    "UsageError",
    "extract_login_url_from_error",
    "nearest",
]

LOGIN_MARK = ". Please log in: "
"""The text between the sentence of an error and the URL of the login page."""


class TokenferryError(Exception):
    """The base of all errors."""

    exit_code = 1
    for_clients: str | None = None
    """What clients of the gateway read instead, where the sentence names what only the operator may see."""

    @classmethod
    def word(cls) -> str:
        """Give its name in metrics, logs and answers: `needs_login`."""
        return "".join(f"_{one}" if one.isupper() else one for one in cls.__name__).lower().lstrip("_")


class UsageError(TokenferryError):
    """The call is invalid: a malformed secret, a bad name, contradicting options."""

    exit_code = 2


class InvalidFields(UsageError):  # noqa: N818  # see UnknownName
    """Invalid fields of a form; `fields` has a sentence for each."""

    def __init__(self, fields: "Mapping[str, str]") -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


class Unfit(UsageError):  # noqa: N818  # see UnknownName
    """A request can't be translated to an upstream's format. The message names the field."""


class UnreadableAnswer(TokenferryError):  # noqa: N818  # see UnknownName
    """An upstream's answer is invalid in its format, so it can't be translated.

    `status` is that of the error that the answer holds in place of content, if any.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NeedsTerminal(TokenferryError):  # noqa: N818  # see UnknownName
    """A question must be answered, but there is no terminal. Nothing was changed."""

    exit_code = 9


class ConfigError(TokenferryError):
    """The configuration is invalid. `problems` has a sentence for each fault."""

    exit_code = 3

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]))
        self.problems = problems


class UnknownName(TokenferryError):  # noqa: N818  # the names say what happened, without the suffix Error
    """A name is unknown."""

    exit_code = 4

    @classmethod
    def among(cls, noun: str, name: str, known: "Iterable[str]", see: str) -> "Self":
        """Make the error for an unknown `noun`, with the nearest `known` name. The command `see` lists them."""
        names = sorted(known)
        near = nearest(name, names)
        hint = f"did you mean {near!r}?" if near else f"there is {', '.join(names) or 'none yet'}"
        return cls(f"there is no {noun} {name[:80]!r}; {hint} (see: {see})")


class UnknownAccount(UnknownName):
    """No account has the name, or none was chosen among several."""


class UnknownProvider(UnknownName):
    """No provider has the name."""

    @classmethod
    def at_login(cls, name: str, known: "Iterable[str]") -> "Self":
        """Make the error for a login there; `known` are the providers to log in at."""
        return cls(
            f"there is no provider {name[:64]!r}; those to log in at: {', '.join(known)}; declare others under "
            "[[providers]] in config.toml"
        )


class NeedsLogin(TokenferryError):  # noqa: N818  # see UnknownName
    """A new login is needed: the refresh token is dead, missing or owned by another program."""

    exit_code = 5


class ChainCopied(NeedsLogin):
    """The document comes from another machine, where its token family may still be in use."""


class TryLater(TokenferryError):  # noqa: N818  # see UnknownName
    """The same call may succeed later; nothing is lost. `retry_after` is in seconds, if known."""

    exit_code = 6

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefreshBusy(TryLater):
    """Another process is refreshing and did not finish in time."""


class RefreshFailed(TryLater):
    """The token endpoint was unreachable, or its answer decided nothing."""


class RefreshUncertain(TryLater):
    """A refresh was sent and its answer lost; the server may have rotated the token."""


class LockTimeout(TryLater):
    """A lock was not released in time. `holder` describes the process that holds it, if known."""

    def __init__(self, message: str, *, holder: str = "another process") -> None:
        super().__init__(message, retry_after=1.0)
        self.holder = holder


class KeyCommandFailed(TryLater):
    """An account's key can't be fetched: its command failed or printed none, or Google gave no token."""


class NeedsUnlock(TryLater):
    """A sealed document can't be opened now: the keyring is locked, or the key file is missing."""


class LoginFailed(TokenferryError):  # noqa: N818  # see UnknownName
    """A login failed: it was refused, timed out, or completed by someone else. Nothing was stored."""


class PolicyRefused(TokenferryError):  # noqa: N818  # see UnknownName
    """`[policy] subscriptions` does not allow this use of a subscription credential."""

    exit_code = 7


class CredentialRefused(TokenferryError):  # noqa: N818  # see UnknownName
    """The provider refused the credential, and a refresh is impossible or did not help."""

    exit_code = 5


class UnsafeFile(TokenferryError):  # noqa: N818  # see UnknownName
    """A file with secrets has a mode, an owner or a type by which others could read or replace it."""

    exit_code = 8


class CorruptFile(TokenferryError):  # noqa: N818  # see UnknownName
    """A file can't be understood. It stays unchanged."""

    exit_code = 8


class SealKeyLost(CorruptFile):
    """The keyring or key file is accessible, but holds another key or none."""


class StorageFailed(TokenferryError):  # noqa: N818  # see UnknownName
    """Writing failed: the disk is full, read-only or gone."""


class StoreAway(StorageFailed):
    """The shared database is unreachable or closed the connection. It may be available again soon."""


class Conflict(TokenferryError):  # noqa: N818  # see UnknownName
    """Another program or person changed the same thing first; nothing was written."""


def nearest(word: str, known: "Iterable[str]", cutoff: float = 0.6) -> str | None:
    """Give the `known` word most similar to `word`; None below the similarity `cutoff`, from 0 to 1."""
    from difflib import get_close_matches  # noqa: PLC0415  # takes 5 ms, and only errors need it

    return next(iter(get_close_matches(word, known, n=1, cutoff=cutoff)), None)


def extract_login_url_from_error(text: str) -> str | None:
    """Give the URL in the last `Please log in: URL` of a text; None without one.

    `text` is an error's message, or the JSON of an answer that contains it. Only http and https count.
    """
    _, mark, rest = text.rpartition(LOGIN_MARK[2:])
    url = ""
    for character in rest if mark else "":
        if not "!" <= character <= "~" or character in "\"'<>\\`":
            break
        url += character
    url = url.rstrip(".,;:!?)]}")
    scheme, _, host = url.partition("://")
    return url if scheme in {"http", "https"} and host.strip("/") else None
