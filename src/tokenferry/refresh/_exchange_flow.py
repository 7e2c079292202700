"""The exchange of a workload's identity token or of a long-lived token, without I/O.

Nothing single-use is presented, so there is no journal: a lost answer is asked for again. One process does it for all,
under the account's lock, and shares its token or failure as a refresh does.
"""

import logging
from typing import Final, TypeAlias

from msgspec.structs import replace

from tokenferry.credentials import ExchangedToken, FederatedToken
from tokenferry.errors import Conflict, CredentialRefused, NeedsLogin, RefreshFailed, StorageFailed, TokenferryError
from tokenferry.oauth import (
    Denied,
    Granted,
    HttpOutcome,
    NotGranted,
    OAuthEndpoints,
    TokenRequest,
    federation_request,
    read_federation,
    read_token_exchange,
    token_exchange_request,
)
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._back_off import Flow, back_off, check_backoff
from tokenferry.refresh._job import (
    FlowContext,
    RefreshRequest,
    Result,
    granted_ago,
    log_in_again,
    seconds_left,
    window,
)
from tokenferry.refresh._journal import RefreshFailure
from tokenferry.secret import Secret
from tokenferry.stores import Document

logger = logging.getLogger(__name__)

_REPUBLISH_EVERY: Final = 1.0

Exchangeable: TypeAlias = FederatedToken | ExchangedToken


def presented_by(token: Exchangeable, context: FlowContext) -> Secret:
    """Return what an exchange presents: the long-lived token, or the workload's present identity token."""
    return token.subject if isinstance(token, ExchangedToken) else context.identity(token.federation)


def exchange(
    job: RefreshRequest, context: FlowContext, document: Document, token: Exchangeable, started: float
) -> Flow[Result]:
    """Return a document that satisfies the job, for `refresh_flow`, which read `document` under the account's lock.

    Raises `RefreshFailed`, `NeedsLogin`, `CredentialRefused` and what reading the identity token raises.
    """
    if job.is_satisfied_by(document, context.now()):
        return Result(document, granted=False)
    presented = presented_by(token, context)
    failure = yield effects.ReadFailure()
    check_backoff(failure, document, presented.sha256, context, adopt_from=started, forced=job.forced)
    age = granted_ago(token, context.now())
    if token.secret.sha256 == job.refused and 0 <= age < context.settings.settle:
        raise CredentialRefused(
            f"account {job.name!r}: the provider refuses a token it granted {age:.0f} seconds ago, so another one "
            "would not help; check what the account may do there"
        )
    yield from _forget_attempt(document)
    endpoints = context.endpoints(document)
    request = _request(context, document, token, presented, endpoints)
    sent_at = context.now()
    answer: HttpOutcome = yield effects.Send(request, context.settings.timeout)
    now = context.now()
    outcome = _read(answer, token, presented, endpoints, sent_at=sent_at, now=now)
    if isinstance(outcome, Granted):
        return (yield from _keep(context, document, token.secret, outcome))
    if isinstance(outcome, Denied):
        yield effects.RecordFailure(RefreshFailure("needs-login", presented.sha256, now, outcome.reason))
        raise NeedsLogin(f"account {job.name!r}: {outcome.reason}; {log_in_again(document.account)}")
    failure = back_off(outcome, presented, now, failure, context.jitter())
    yield effects.RecordFailure(failure)
    wait = failure.until - now
    raise RefreshFailed(
        f"account {job.name!r} could not be renewed: {outcome.reason}; the next try is in {wait:.0f} s",
        retry_after=wait,
    )


def _request(
    context: FlowContext, document: Document, token: Exchangeable, presented: Secret, endpoints: OAuthEndpoints
) -> TokenRequest:
    """Build the request. Raises `RefreshFailed` where the provider declares no exchange."""
    if isinstance(token, ExchangedToken):
        missing = endpoints.token_exchange is None or endpoints.token_exchange.url is None
        what, where, table = "its token", "token_exchange", "[[providers]] as [providers.token_exchange]"
    else:
        missing = endpoints.federation_url is None and endpoints.token_endpoint is None
        what, where, table = "its identity token", "federation_url", "[providers.oauth]"
    if missing:
        raise RefreshFailed(
            f"account {document.account.name!r}: provider {document.account.provider!r} declares no {where} to "
            f"exchange {what} at; add one under {table}"
        )
    if isinstance(token, ExchangedToken):
        assert endpoints.token_exchange is not None
        return token_exchange_request(endpoints.token_exchange, presented)
    return federation_request(endpoints, token.federation, presented, context.client_secret(endpoints))


def _read(
    answer: HttpOutcome,
    token: Exchangeable,
    presented: Secret,
    endpoints: OAuthEndpoints,
    *,
    sent_at: float,
    now: float,
) -> Granted | Denied | NotGranted:
    if isinstance(token, ExchangedToken):
        assert endpoints.token_exchange is not None
        return read_token_exchange(answer, endpoints.token_exchange, presented, token, sent_at=sent_at, now=now)
    return read_federation(answer, token, presented, sent_at, now)


def _forget_attempt(document: Document) -> Flow[None]:
    """Close an attempt left by an earlier login under this name: its token family is gone."""
    try:
        if (attempt := (yield effects.ReadAttempt())) is not None:
            yield effects.Close(attempt)
    except TokenferryError as fault:
        logger.warning("account %s: %s", document.account.name, fault)


def _keep(context: FlowContext, document: Document, replaced: Secret, outcome: Granted) -> Flow[Result]:
    """Publish the token. While the disk is full, serve callers from memory and hold the lock."""
    name, token, is_reported = document.account.name, outcome.token, False
    while True:
        granted = replace(document, credential=token, machine=context.machine, generation=document.generation + 1)
        try:
            yield effects.Publish(document.generation, granted)
            break
        except Conflict:
            document = yield effects.Read()
            if document.credential.secret != replaced:  # another program has written one: never overwrite it
                return Result(document, granted=False)
        except StorageFailed as fault:
            if not is_reported:
                logger.warning("account %s: its token is served from memory until it can be written: %s", name, fault)
                is_reported = True
            yield effects.Deliver(granted)
            is_used_up = seconds_left(token, context.now()) <= window(token, context.settings.mandatory)
            if is_used_up or not (yield effects.Sleep(_REPUBLISH_EVERY)):
                return Result(granted, granted=True, published=False)
    yield effects.RecordFailure(None)
    return Result(granted, granted=True)
