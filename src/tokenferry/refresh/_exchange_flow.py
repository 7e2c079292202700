"""The whole of a workload's exchange, without I/O.

Nothing single-use is presented, so nothing has to be journalled: what was lost is asked for again. One process does it
for all, under the account's lock, and what came of it is shared as for refreshes.
"""

import logging
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import FederatedToken
from tokenferry.errors import Conflict, CredentialRefused, RefreshFailed, StorageFailed, TokenferryError
from tokenferry.oauth import Granted, federation_request, read_federation
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._back_off import Flow, back_off, check_backoff
from tokenferry.refresh._job import FlowContext, RefreshRequest, Result, granted_ago, seconds_left, window
from tokenferry.secret import Secret
from tokenferry.stores import Document

logger = logging.getLogger(__name__)

_REPUBLISH_EVERY: Final = 1.0


def exchange(
    job: RefreshRequest, context: FlowContext, document: Document, token: FederatedToken, started: float
) -> Flow[Result]:
    """Give a document that satisfies the job, for `refresh_flow`, which holds the account's lock since it was read.

    Raises `RefreshFailed`, `CredentialRefused` and what reading the identity token raises.
    """
    if job.is_satisfied_by(document, context.now()):
        return Result(document, granted=False)
    identity = context.identity(token.federation)
    failure = yield effects.ReadFailure()
    check_backoff(failure, document, identity.sha256, context, adopt_from=started, forced=job.forced)
    age = granted_ago(token, context.now())
    if token.secret.sha256 == job.refused and 0 <= age < context.settings.settle:
        raise CredentialRefused(
            f"account {job.name!r}: the provider refuses a token it granted {age:.0f} seconds ago; another one would "
            "not help: check what the workload may do there"
        )
    yield from _forget_attempt(document)
    endpoints = context.endpoints(document)
    if endpoints.federation_url is None and endpoints.token_endpoint is None:
        raise RefreshFailed(
            f"account {job.name!r}: provider {document.account.provider!r} declares no federation_url, where its "
            "identity token could be exchanged; add one under [providers.oauth]"
        )
    request = federation_request(endpoints, token.federation, identity, context.client_secret(endpoints))
    sent_at = context.now()
    outcome = read_federation(
        (yield effects.Send(request, context.settings.timeout)), token, identity, sent_at, context.now()
    )
    if isinstance(outcome, Granted):
        return (yield from _keep(context, document, token.secret, outcome))
    now = context.now()
    failure = back_off(outcome, identity, now, failure, context.jitter())
    yield effects.RecordFailure(failure)
    wait = failure.until - now
    raise RefreshFailed(
        f"account {job.name!r} could not be renewed: {outcome.reason}; the next try is in {wait:.0f} s",
        retry_after=wait,
    )


def _forget_attempt(document: Document) -> Flow[None]:
    """What an earlier login under this name left behind is about a token family that is no more."""
    try:
        if (attempt := (yield effects.ReadAttempt())) is not None:
            yield effects.Close(attempt)
    except TokenferryError as fault:
        logger.warning("account %s: %s", document.account.name, fault)


def _keep(context: FlowContext, document: Document, replaced: Secret, outcome: Granted) -> Flow[Result]:
    """Publish the token. While a full disk hinders that, callers are served from memory, and no other process asks."""
    name, token, is_reported = document.account.name, outcome.token, False
    while True:
        granted = replace(document, credential=token, machine=context.machine, generation=document.generation + 1)
        try:
            yield effects.Publish(document.generation, granted)
            break
        except Conflict:
            document = yield effects.Read()
            if document.credential.secret != replaced:  # somebody put another one there: never overwrite it
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
