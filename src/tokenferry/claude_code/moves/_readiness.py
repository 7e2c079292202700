"""Whether a token family may be moved: no refresh of it may be in flight or in doubt."""

import logging
import time

from msgspec.structs import replace

from tokenferry.credentials import FederatedToken, OAuthToken
from tokenferry.errors import ChainCopied, CredentialRefused, NeedsLogin, RefreshBusy, RefreshUncertain
from tokenferry.refresh import Journal
from tokenferry.stores import Document, Store

logger = logging.getLogger(__name__)


def settled(store: Store, journal: Journal, document: Document, *, machine: str) -> Document:
    """The document with the result of its last refresh. Hold its lock.

    Raises `RefreshUncertain` or `RefreshBusy` while that result isn't known, `StorageFailed`.
    """
    name, token = document.account.name, document.credential
    assert isinstance(token, OAuthToken)
    attempt = journal.attempt(name)
    if attempt is None or token.refresh is None or attempt.token != token.refresh.sha256:
        return document
    if attempt.answer is not None and attempt.state not in {"answered", "uncertain"}:
        if attempt.answer.secret != token.secret:
            logger.warning("account %s: finishing the refresh that attempt %s had begun", name, attempt.id)
            answer = replace(attempt.answer, unknown=token.unknown)
            store.swap(name, document.generation, replace(document, credential=answer, machine=machine))
            journal.record_failure(name, None)
        journal.close(name, attempt)
        return store.read(name)
    if attempt.state in {"begun", "open"} and not attempt.process.is_gone():
        raise RefreshBusy(
            f"account {name!r} is not moved: process {attempt.process.pid} has a refresh of it in flight without "
            "holding its lock; wait for it, or end it",
            retry_after=1.0,
        )
    if attempt.may_be_spent and attempt.state != "denied" and not is_dead(journal, name, token):
        raise RefreshUncertain(
            f"account {name!r} is not moved: the answer to its last refresh was lost, so which of its tokens is the "
            f"living one isn't known; once its present token is used up, find out with: tokenferry refresh {name}"
        )
    return document


def check_may_leave(journal: Journal, document: Document, *, machine: str) -> None:
    """Raise unless another program could use and renew this login.

    Raises `NeedsLogin`, `ChainCopied`, `CredentialRefused`.
    """
    name, token = document.account.name, document.credential
    again = f"log in again with: tokenferry login {name}"
    if isinstance(token, FederatedToken):
        raise CredentialRefused(
            f"account {name!r} is a workload's, whose identity token Claude Code doesn't exchange; give it to it with: "
            f"tokenferry run --account {name} -- claude"
        )
    if not isinstance(token, OAuthToken) or token.is_exchanged:
        what = f"an {document.account.kind} token" if isinstance(token, OAuthToken) else "an API key or setup token"
        raise CredentialRefused(
            f"account {name!r} holds {what}, which is not a login that Claude Code could renew; give "
            f"it to it with: tokenferry run --account {name} -- claude"
        )
    if document.account.owner != "tokenferry":
        raise NeedsLogin(f"account {name!r}: its token family is owned by {document.account.owner}; log in there")
    if document.machine not in {None, machine}:
        raise ChainCopied(
            f"account {name!r} was copied here from another machine, where its login may still be in use; if it is "
            f"not, say so with: tokenferry account confirm {name}"
        )
    if token.refresh is None:
        raise NeedsLogin(f"account {name!r}: refresh token absent, so Claude Code could not renew it; {again}")
    if is_dead(journal, name, token):
        raise NeedsLogin(f"account {name!r}: its refresh token is dead; {again}")


def is_dead(journal: Journal, name: str, token: OAuthToken) -> bool:
    """Whether only a new login helps."""
    now = time.time()
    if token.refresh is None:
        return token.expires_at is not None and token.expires_at <= now
    failure, attempt = journal.failure(name), journal.attempt(name)
    if failure is not None and failure.kind == "needs-login" and failure.token == token.refresh.sha256:
        return True
    if attempt is not None and attempt.state == "denied" and attempt.token == token.refresh.sha256:
        return True
    return token.refresh_expires_at is not None and token.refresh_expires_at <= now
