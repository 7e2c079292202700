"""Every error tokenferry raises, as one tree.

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
`exit_code` is what the command ends with.
"""

TYPE_CHECKING = False  # the real one costs an import of typing
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
"""The text of an error between its sentence and the address of a page about logging in."""


class TokenferryError(Exception):
    """Anything tokenferry refuses or fails to do."""

    exit_code = 1

    @classmethod
    def word(cls) -> str:
        """What metrics, logs and answers call it: `needs_login`."""
        return "".join(f"_{one}" if one.isupper() else one for one in cls.__name__).lower().lstrip("_")


class UsageError(TokenferryError):
    """The call itself makes no sense: a malformed secret, a bad name, contradicting options."""

    exit_code = 2


class InvalidFields(UsageError):  # noqa: N818  # see UnknownName
    """Fields of one form that can't be as they are; `fields` has a sentence for each."""

    def __init__(self, fields: "Mapping[str, str]") -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


class Unfit(UsageError):  # noqa: N818  # see UnknownName
    """A request asks for something that the format of an upstream can't say. The message names the field."""


class UnreadableAnswer(TokenferryError):  # noqa: N818  # see UnknownName
    """An upstream's answer has not the form that its format demands, so that it can't be translated.

    `status` is that of the error which the answer tells of in place of its content, if it does.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NeedsTerminal(TokenferryError):  # noqa: N818  # see UnknownName
    """There are questions to answer, and no terminal to ask them in. Nothing was changed."""

    exit_code = 9


class ConfigError(TokenferryError):
    """The configuration can't be used. `problems` lists every fault found, one sentence each."""

    exit_code = 3

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]))
        self.problems = problems


class UnknownName(TokenferryError):  # noqa: N818  # the tree reads as what happened; every name in it would end in Error
    """A name that nothing here answers to."""

    exit_code = 4

    @classmethod
    def among(cls, what: str, name: str, known: "Iterable[str]", see: str) -> "Self":
        """Say that there is no `what` of that name, with the nearest of the `known` names; `see` lists them."""
        names = sorted(known)
        near = nearest(name, names)
        hint = f"did you mean {near!r}?" if near else f"there is {', '.join(names) or 'none yet'}"
        return cls(f"there is no {what} {name[:80]!r}; {hint} (see: {see})")


class UnknownAccount(UnknownName):
    """No account of that name, or none chosen where several could be meant."""


class UnknownProvider(UnknownName):
    """No provider of that name."""


class NeedsLogin(TokenferryError):  # noqa: N818  # see UnknownName
    """Only a new login helps: the refresh token is dead, absent or not ours."""

    exit_code = 5


class ChainCopied(NeedsLogin):
    """The document was made on another machine, where its token family may still be in use."""


class TryLater(TokenferryError):  # noqa: N818  # see UnknownName
    """Nothing is lost; the same call may succeed later. `retry_after` is in seconds, if known."""

    exit_code = 6

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefreshBusy(TryLater):
    """Another process holds the refresh and did not finish in time."""


class RefreshFailed(TryLater):
    """The token endpoint could not be reached, or answered without deciding anything."""


class RefreshUncertain(TryLater):
    """A refresh was sent and its answer was lost; the server may have rotated the token."""


class LockTimeout(TryLater):
    """A lock was not released in time. `holder` says who has it, as well as can be known."""

    def __init__(self, message: str, *, holder: str = "another process") -> None:
        super().__init__(message, retry_after=1.0)
        self.holder = holder


class KeyCommandFailed(TryLater):  # see UnknownName
    """An account's key can't be fetched: its command failed or printed none, or Google's credentials gave no token."""


class NeedsUnlock(TryLater):
    """What is sealed can't be opened now: the keyring with its key is locked, or the key file isn't there."""


class LoginFailed(TokenferryError):  # noqa: N818  # see UnknownName
    """A login came to nothing: it was refused, timed out, or was answered by somebody else. Nothing was stored."""


class PolicyRefused(TokenferryError):  # noqa: N818  # see UnknownName
    """`[policy] subscriptions` does not allow this use of a subscription credential."""

    exit_code = 7


class CredentialRefused(TokenferryError):  # noqa: N818  # see UnknownName
    """The provider refused this credential, and a refresh can't or didn't help."""

    exit_code = 5


class UnsafeFile(TokenferryError):  # noqa: N818  # see UnknownName
    """A file that holds secrets has a mode, an owner or a type that would let others read or replace it."""

    exit_code = 8


class CorruptFile(TokenferryError):  # noqa: N818  # see UnknownName
    """A file that can't be understood. It is left as it is."""

    exit_code = 8


class SealKeyLost(CorruptFile):
    """The place where the key of something sealed should rest is open, and holds another one or none."""


class StorageFailed(TokenferryError):  # noqa: N818  # see UnknownName
    """The disk did not take what had to be written (full, read-only, gone)."""


class StoreAway(StorageFailed):
    """The database that hosts share can't be reached, or ended the connection. It may be there again soon."""


class Conflict(TokenferryError):  # noqa: N818  # see UnknownName
    """Somebody else changed the same thing first; nothing was written."""


def nearest(word: str, known: "Iterable[str]", cutoff: float = 0.6) -> str | None:
    """The one of the `known` words that is most like `word`; None where none is as like as `cutoff`, from 0 to 1."""
    from difflib import get_close_matches  # noqa: PLC0415  # 5 ms that only an error needs

    return next(iter(get_close_matches(word, known, n=1, cutoff=cutoff)), None)


def extract_login_url_from_error(text: str) -> str | None:
    """Give the address in `Please log in: URL`, the last one of a text; None if there is none.

    `text` is an error as a program got it: its message, or an answer's JSON around it. Only http and https count.
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
