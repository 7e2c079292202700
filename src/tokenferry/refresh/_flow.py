"""The refresh of one account as a generator, without I/O: it yields effects and decides on their results.

The order makes it safe: attempt on disk, then the POST, then the answer on disk, then publish, then release.
"""

import logging
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import ExchangedToken, FederatedToken, OAuthToken
from tokenferry.errors import (
    ChainCopied,
    Conflict,
    CredentialRefused,
    NeedsLogin,
    RefreshBusy,
    RefreshFailed,
    RefreshUncertain,
    StorageFailed,
    TokenferryError,
    TryLater,
)
from tokenferry.oauth import (
    Denied,
    Granted,
    NotGranted,
    OAuthEndpoints,
    Outcome,
    Uncertain,
    read_refresh,
    refresh_request,
)
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._back_off import Flow, back_off, check_backoff
from tokenferry.refresh._exchange_flow import exchange, presented_by
from tokenferry.refresh._job import FlowContext, RefreshRequest, Result, granted_ago, log_in_again, seconds_left
from tokenferry.refresh._journal import RefreshAttempt, RefreshFailure
from tokenferry.secret import Secret
from tokenferry.stores import Document

logger = logging.getLogger(__name__)

_MOST_TRIES: Final = 2
_SIBLING_WAIT: Final = 1.0
_REPUBLISH_EVERY: Final = 1.0
_SHORTEST_TIMEOUT: Final = 5.0
_SECOND_PRESENTATION: Final = 120.0
"""Seconds after the first presentation. No answer to it, and no sibling's write, is still under way then."""
_CLAUDE_CODE_TIMEOUT: Final = 20.0  # it gives up on a held lock after 33 seconds


def refresh_flow(job: RefreshRequest, context: FlowContext) -> Flow[Result]:
    """Return a document that satisfies the job, by another process's grant or by one of its own.

    Raises `RefreshBusy`, `RefreshFailed`, `RefreshUncertain`, `NeedsLogin`, `ChainCopied`, `CredentialRefused`,
    `StorageFailed`, and what reading the document raises.
    """
    started = context.now()
    document: Document = yield effects.Read()
    if job.is_satisfied_by(document, context.now()):
        return Result(document, granted=False)
    if not job.forced:
        check_backoff((yield effects.ReadFailure()), document, _presented(document, context), context, adopt_from=None)
    holder: str | None = yield effects.Acquire(job.wait)
    if holder is not None:
        document = yield effects.Read()
        if job.is_satisfied_by(document, context.now()):
            return Result(document, granted=False)
        token = document.credential
        its = "identity token" if isinstance(token, FederatedToken) else "token"
        what = f"exchanging its {its}" if isinstance(token, FederatedToken | ExchangedToken) else "refreshing it"
        raise RefreshBusy(
            f"account {job.name!r}: {holder} is {what} and was not done after {job.wait:g} seconds; "
            "try again, or end that process if it hangs",
            retry_after=1.0,
        )
    try:
        result = yield from _under_lock(job, context, started)
    except Exception:  # not GeneratorExit: the driver releases the lock of a flow that is closed early
        yield effects.Release()
        raise
    yield effects.Release()
    return result


def _presented(document: Document, context: FlowContext) -> str | None:
    """Return the sha256 of what a grant would present: the token to exchange, or the refresh token."""
    token = document.credential
    if isinstance(token, FederatedToken | ExchangedToken):
        return presented_by(token, context).sha256
    return _refresh_digest(document)


def _under_lock(job: RefreshRequest, context: FlowContext, started: float) -> Flow[Result]:
    document: Document = yield effects.Read()
    if isinstance(document.credential, FederatedToken | ExchangedToken):
        return (yield from exchange(job, context, document, document.credential, started))
    document, attempt = yield from _recover(job, context, document)
    if job.is_satisfied_by(document, context.now()):
        return Result(document, granted=False)
    token, refresh = _renewable(job, document, context)
    failure: RefreshFailure | None = yield effects.ReadFailure()
    check_backoff(failure, document, refresh.sha256, context, adopt_from=started, forced=job.forced)
    age = granted_ago(token, context.now())
    if token.secret.sha256 == job.refused and 0 <= age < context.settings.settle:
        raise CredentialRefused(
            f"account {job.name!r}: the provider refuses a token it granted {age:.0f} seconds ago; refreshing again "
            "would not help; check that the account may use the API"
        )

    endpoints = context.endpoints(document)
    tries, since = 1, context.now()
    if attempt is not None:
        since = attempt.at  # the grace counts from the first presentation
        tries = attempt.tries if attempt.state == "closed" else attempt.tries + 1
        _weigh_retry(job, context, document, attempt, endpoints)
    while True:
        begun = RefreshAttempt.begin(refresh.sha256, since, context.process, tries)
        replaces = None if attempt is None else attempt.id
        outcome, attempt = yield from _attempt(context, document, token, refresh, begun, replaces=replaces)
        if isinstance(outcome, Granted):
            return (yield from _keep(context, document, outcome, attempt))
        if not isinstance(outcome, Uncertain):
            break
        yield from _quietly(document, effects.Mark(attempt, "uncertain"))
        if tries >= _MOST_TRIES or not _in_grace(context, attempt, endpoints):
            break
        tries += 1
    return (yield from _fail(job, context, document, outcome, attempt))


def _recover(
    job: RefreshRequest, context: FlowContext, document: Document
) -> Flow[tuple[Document, RefreshAttempt | None]]:
    """Finish the attempt on record. Returns it only if its outcome stays unknown."""
    attempt: RefreshAttempt | None = yield effects.ReadAttempt()
    if attempt is None:
        return document, None
    token = document.credential
    if not isinstance(token, OAuthToken) or _refresh_digest(document) != attempt.token:
        # The token family has moved on: the attempt was published, or there is a new login.
        yield effects.Close(attempt)
        return document, None
    if attempt.answer is not None and attempt.state != "uncertain":
        answer = Granted(attempt.answer, knows_successor=attempt.state != "answered")
        if answer.token.secret != token.secret:
            logger.warning("account %s: finishing the refresh that attempt %s had begun", job.name, attempt.id)
            kept = yield from _keep(context, document, answer, attempt)
            if not kept.published and not job.is_satisfied_by(kept.document, context.now()):
                raise StorageFailed(
                    f"account {job.name!r}: its renewed token is in the journal and can't be written to the account "
                    "yet; make room on the disk"
                )
            return kept.document, None if answer.knows_successor else (yield effects.ReadAttempt())
        if answer.knows_successor:
            yield effects.Close(attempt)
            return document, None
        yield from _quietly(document, effects.Mark(attempt, "uncertain"))
    if attempt.state == "denied":
        raise NeedsLogin(
            f"account {job.name!r}: the provider says that its refresh token is dead; {log_in_again(document.account)}"
        )
    if (
        attempt.state in {"begun", "open", "answered"}
        and attempt.process != context.process
        and not context.is_gone(attempt.process)
    ):
        raise RefreshBusy(
            f"account {job.name!r}: process {attempt.process.pid} has a refresh in flight without holding its lock; "
            "wait for it, or end it",
            retry_after=1.0,
        )
    if attempt.state == "begun":  # its process ended before the first byte left, so nothing was presented
        yield from _quietly(document, _withdrawn(attempt))
        return document, replace(attempt, state="closed") if attempt.may_be_spent else None
    context.first_saw(document.account.name, attempt.token)
    return document, attempt


def _withdrawn(attempt: RefreshAttempt) -> effects.Effect:
    """End an attempt that presented nothing; an earlier one with an unknown outcome stays on record."""
    return effects.Mark(attempt, "closed") if attempt.tries > 1 else effects.Close(attempt)


def _renewable(job: RefreshRequest, document: Document, context: FlowContext) -> tuple[OAuthToken, Secret]:
    """Return the token and its refresh token, if tokenferry may refresh them. Raises otherwise."""
    token, account = document.credential, document.account
    if not isinstance(token, OAuthToken):
        raise CredentialRefused(f"account {job.name!r} holds an API key or setup token, which can't be refreshed")
    if account.owner == "claude-code":
        _check_claude_code(job, token, context)
    elif account.owner != "tokenferry":
        raise NeedsLogin(
            f"account {job.name!r}: its token family is owned by {account.owner}, which alone refreshes it; "
            f"{log_in_again(account)}"
        )
    if document.machine is not None and document.machine != context.machine:
        raise ChainCopied(
            f"account {job.name!r} was copied here from another machine, where its login may still be in use; if it is "
            f"not, say so with: tokenferry account confirm {job.name}; else {log_in_again(document.account)}"
        )
    if token.refresh is None:
        raise NeedsLogin(
            f"account {job.name!r}: refresh token absent, and its access token has expired or was refused; "
            f"{log_in_again(account)}"
        )
    if context.endpoints(document).token_endpoint is None:
        raise NeedsLogin(
            f"account {job.name!r}: provider {document.account.provider!r} declares no token_endpoint, so nothing can "
            "renew it; add one under [providers.oauth]"
        )
    return token, token.refresh


def _check_claude_code(job: RefreshRequest, token: OAuthToken, context: FlowContext) -> None:
    """Raise unless the access token of Claude Code's login has expired or was refused: only then may we refresh it."""
    left = seconds_left(token, context.now())
    if left > 0 and token.secret.sha256 != job.refused:
        raise TryLater(
            f"account {job.name!r} is Claude Code's own login, which is refreshed only when its token has expired or "
            f"was refused; that one has {left:.0f} seconds left",
            retry_after=left,
        )


def _refresh_digest(document: Document) -> str | None:
    """Return the sha256 of the document's refresh token, which identifies it in attempts and failures."""
    refresh = getattr(document.credential, "refresh", None)
    return None if refresh is None else refresh.sha256


def _weigh_retry(
    job: RefreshRequest, context: FlowContext, document: Document, attempt: RefreshAttempt, endpoints: OAuthEndpoints
) -> None:
    """Raise unless it is right to present a refresh token again whose first presentation has an unknown outcome."""
    if attempt.tries >= _MOST_TRIES and attempt.state != "closed":
        handling = "no refresh token in them could be read" if attempt.answer is not None else "both answers were lost"
        raise NeedsLogin(
            f"account {job.name!r}: two refreshes were sent and {handling}, so the login can't be saved; "
            f"{log_in_again(document.account)}"
        )
    token = document.credential
    assert isinstance(token, OAuthToken)
    if _in_grace(context, attempt, endpoints):
        return
    nothing_to_lose = seconds_left(token, context.now()) <= 0 or token.secret.sha256 == job.refused
    if not nothing_to_lose:
        handling = "held no refresh token that can be read" if attempt.answer is not None else "was lost"
        raise RefreshUncertain(
            f"account {job.name!r}: the answer to its last refresh {handling}; the present token is used "
            "while it lives, then the refresh is tried once more"
        )
    wait = _second_presentation_in(context, document.account.name, attempt)
    whose = ""
    if attempt.state == "orphaned":
        if token.expires_at is not None and token.expires_at <= context.now():
            wait = max(wait, token.expires_at + context.settings.orphan_wait - context.now())
        host = attempt.process.instance.partition(":")[0]
        whose = f" or is with host {host} (if that is gone for good: tokenferry store forget-host {host})"
    if wait > 0:
        raise RefreshUncertain(
            f"account {job.name!r}: the answer to its last refresh was lost{whose}; the refresh is tried once more in "
            f"{wait:.0f} s",
            retry_after=wait,
        )


def _second_presentation_in(context: FlowContext, name: str, attempt: RefreshAttempt) -> float:
    """Seconds until a refresh token with an unanswered presentation may be presented again.

    The wall clock may have been set since, so the wait never exceeds the one counted from this process's first sight.
    """
    if attempt.answer is not None:
        return 0.0
    left = attempt.at + _SECOND_PRESENTATION - context.now()
    return min(left, context.first_saw(name, attempt.token) + _SECOND_PRESENTATION - context.monotonic())


def _in_grace(context: FlowContext, attempt: RefreshAttempt, endpoints: OAuthEndpoints) -> bool:
    """Whether the attempt is still within the declared time in which the server accepts a replay."""
    return endpoints.reuse_grace > 0 and 0 <= context.now() - attempt.at < endpoints.reuse_grace


def _attempt(
    context: FlowContext,
    document: Document,
    token: OAuthToken,
    refresh: Secret,
    attempt: RefreshAttempt,
    *,
    replaces: str | None,
) -> Flow[tuple[Outcome, RefreshAttempt]]:
    endpoints = context.endpoints(document)
    request = refresh_request(endpoints, refresh, context.client_secret(endpoints))
    if document.account.owner != "claude-code":  # the lock of Claude Code checks that itself
        yield effects.CheckReplaceable()
    try:
        yield effects.RecordAttempt(attempt, replaces)
    except Conflict as fault:
        raise RefreshBusy(str(fault), retry_after=1.0) from None
    if not (yield effects.StillHeld()):  # after a long suspension, for example
        yield from _withdraw(document, attempt)
        raise RefreshBusy(
            f"account {document.account.name!r}: another program took its lock before anything was sent; try again",
            retry_after=1.0,
        )
    timeout = context.settings.timeout
    if document.account.owner == "claude-code":
        timeout = min(timeout, _CLAUDE_CODE_TIMEOUT)
    if endpoints.reuse_grace > 0:  # give up early enough for the one replay to fall within the grace
        timeout = min(timeout, max(endpoints.reuse_grace / 2, _SHORTEST_TIMEOUT))
    sent_at = context.now()
    transmission = yield effects.Send(request, timeout, attempt)
    outcome = read_refresh(transmission, token, sent_at, context.now())
    if isinstance(outcome, Uncertain):
        context.first_saw(document.account.name, attempt.token)
    return outcome, attempt


def _withdraw(document: Document, attempt: RefreshAttempt) -> Flow[None]:
    """Withdraw an unsent attempt, unless another one has replaced it on record."""
    recorded: RefreshAttempt | None = yield effects.ReadAttempt()
    if recorded is not None and recorded.id == attempt.id:
        yield from _quietly(document, _withdrawn(attempt))


def _keep(context: FlowContext, document: Document, answer: Granted, attempt: RefreshAttempt) -> Flow[Result]:
    """Make the grant durable, then publish it. A full disk delays that and loses nothing.

    If the answer's refresh token could not be read, the attempt stays on record, and the old one may be presented
    once more.
    """
    name, token, is_reported = document.account.name, answer.token, False
    is_kept = yield from _record(document, answer, attempt)
    granted = replace(document, credential=token, machine=context.machine, generation=document.generation + 1)
    while True:
        try:
            yield effects.Publish(document.generation, granted, attempt.token)
            break
        except Conflict:
            document = yield effects.Read()
            if _refresh_digest(document) != attempt.token:  # a new login: never overwrite it
                yield effects.Close(attempt)
                return Result(document, granted=False)
            granted = replace(document, credential=token, machine=context.machine, generation=document.generation + 1)
        except StorageFailed as fault:
            if not is_reported:
                logger.warning(
                    "account %s: the new token is served from memory until it can be written: %s", name, fault
                )
                is_reported = True
            yield effects.Deliver(granted)
            if not (yield effects.Sleep(_REPUBLISH_EVERY)):
                if not is_kept:
                    logger.critical(
                        "account %s: its renewed login could not be written anywhere and ends with this process; %s",
                        name,
                        log_in_again(document.account),
                    )
                return Result(granted, granted=True, published=False)
    yield effects.RecordFailure(None)
    yield from _quietly(
        document, effects.Close(attempt) if answer.knows_successor else effects.Mark(attempt, "uncertain")
    )
    return Result(granted, granted=True)


def _record(document: Document, answer: Granted, attempt: RefreshAttempt) -> Flow[bool]:
    """Write the answer to the journal; True if it is durable."""
    if attempt.answer is not None:
        return True
    if not answer.knows_successor:
        yield from _quietly(document, effects.Mark(attempt, "answered"))
    try:
        yield effects.RecordAnswer(attempt, answer.token)
    except StorageFailed as fault:
        logger.warning("account %s: %s", document.account.name, fault)
        return False
    return True


def _fail(
    job: RefreshRequest, context: FlowContext, document: Document, outcome: Outcome, attempt: RefreshAttempt
) -> Flow[Result]:
    """Record the failure of a grant, and raise it."""
    refresh = document.credential.refresh  # type: ignore[union-attr]  # `_renewable` saw one
    assert refresh is not None
    now = context.now()
    if isinstance(outcome, Uncertain):
        if attempt.tries >= _MOST_TRIES:
            reason = f"its refresh was sent twice and both answers were lost ({outcome.reason})"
            yield effects.RecordFailure(RefreshFailure("needs-login", refresh.sha256, now, reason))
            raise NeedsLogin(f"account {job.name!r}: {reason}; {log_in_again(document.account)}")
        yield effects.RecordFailure(RefreshFailure("uncertain", refresh.sha256, now, outcome.reason))
        raise RefreshUncertain(
            f"account {job.name!r}: a refresh was sent and its answer was lost ({outcome.reason}); the present token "
            f"is used while it lives, then the refresh is tried once more, in {_SECOND_PRESENTATION:.0f} s at the "
            "earliest",
            retry_after=_SECOND_PRESENTATION,
        )
    if isinstance(outcome, Denied):
        yield from _quietly(document, effects.Mark(attempt, "denied"))  # a failover may lose what is read below
        yield effects.Sleep(_SIBLING_WAIT)
        document = yield effects.Read()
        if _refresh_digest(document) != refresh.sha256:  # another program has refreshed it without our lock
            yield from _quietly(document, effects.Close(attempt))
            if job.is_satisfied_by(document, context.now()):
                return Result(document, granted=False)
            raise RefreshFailed(f"account {job.name!r} was refreshed by another program; try again", retry_after=1.0)
        reason = f"the provider says that its refresh token is dead ({outcome.reason})"
        if (yield effects.RecordFailure(RefreshFailure("needs-login", refresh.sha256, context.now(), reason))):
            yield from _quietly(document, effects.Close(attempt))
        raise NeedsLogin(f"account {job.name!r}: {reason}; {log_in_again(document.account)}")
    assert isinstance(outcome, NotGranted)
    try:
        known: RefreshFailure | None = yield effects.ReadFailure()
    except StorageFailed:  # without the store the failure must still be recorded
        known = None
    failure = back_off(outcome, refresh, now, known, context.jitter())
    yield effects.RecordFailure(failure)
    yield from _quietly(document, _withdrawn(attempt))
    wait = failure.until - now
    raise RefreshFailed(
        f"account {job.name!r} could not be refreshed: {outcome.reason}; the next try is in {wait:.0f} s",
        retry_after=wait,
    )


def _quietly(document: Document, effect: effects.Effect) -> Flow[None]:
    """Close or mark an attempt. A failing disk is logged: the attempt left on record only delays later refreshes."""
    try:
        yield effect
    except TokenferryError as fault:
        logger.warning("account %s: %s", document.account.name, fault)
