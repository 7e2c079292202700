"""Decides which credential is handed out, and what to wait for before."""

import logging
from collections.abc import Callable, Container, Generator
from copy import copy
from typing import Any, Final, TypeAlias

from tokenferry.accounts import Accounts, too_old_at
from tokenferry.background import Pending
from tokenferry.broker._forced import Forced
from tokenferry.broker._refresh_policy import Due
from tokenferry.credentials import Credential
from tokenferry.errors import (
    LOGIN_MARK,
    CredentialRefused,
    KeyCommandFailed,
    NeedsLogin,
    RefreshBusy,
    TokenferryError,
    TryLater,
)
from tokenferry.refresh import (
    ADVISORY_PAUSE,
    RefreshEngine,
    RefreshRequest,
    Result,
    WarmCredentials,
    fresh_until,
    is_of_unknown_age,
)
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings
from tokenferry.stores import Document, Watch

logger = logging.getLogger(__name__)

_ROUNDS: Final = 3

Steps: TypeAlias = Generator[Pending[Any], None, Credential]


class Resolver:
    """Resolves accounts that aren't warm, for threads and event loops, and warms them for the next call.

    `read` gives an account's document if its credential may be handed out, `now` seconds since 1970 UTC; `handed_out`
    is called with each document handed out without a grant. `limited` gives the accounts to pass over. `login_page`
    gives the address of a page about logging in again, if there is one.
    """

    def __init__(
        self,
        *,
        book: Accounts,
        read: Callable[[str], Document],
        engine: RefreshEngine,
        warm: WarmCredentials,
        watch: Watch,
        settings: RefreshSettings,
        now: Callable[[], float],
        handed_out: Callable[[Document], None],
        login_page: Callable[[], str | None],
        limited: Callable[[], Container[str]] = tuple,
    ) -> None:
        self._book = book
        self._read = read
        self._engine = engine
        self._warm = warm
        self._watch = watch
        self._settings = settings
        self._now = now
        self._handed_out = handed_out
        self._login_page = login_page
        self._limited = limited
        self._due = Due(settings, now)
        self.forced = Forced(now)

    def resolve(self, name: str | None, min_ttl: float | None) -> Credential:
        steps = self._steps(name, min_ttl)
        while isinstance(step := _next(steps), Pending):
            step.wait(self._settings.wait)
        return step

    async def aresolve(self, name: str | None, min_ttl: float | None, refused: Secret | None = None) -> Credential:
        import asyncio  # noqa: PLC0415  # 50 ms that synchronous callers are spared

        steps = self._steps(name, min_ttl, refused)
        while isinstance(step := await asyncio.to_thread(_next, steps), Pending):  # reading a Keychain may take seconds
            await step.async_wait(self._settings.wait)
        return step

    def invalidate(self, name: str | None, secret: Secret) -> None:
        """Report that the provider refused this token; does nothing if another one is warm."""
        warm = self._warm.holds(name)
        if warm is None or warm.secret == secret:
            self._due.refuse(secret)
            names = self._warm.names_of(secret)
            self._warm.forget(names)
            who = " and ".join(f"account {one}" for one in names) or f"account {name or 'in use'}"
            logger.info("%s: the provider refused the token or key %s", who, secret.fingerprint)

    def settled_until(self, document: Document, min_ttl: float) -> float:
        """Return until when `resolve` hands out the document's credential, in seconds since 1970 UTC."""
        limit = too_old_at(document)
        return min(self._due.settled_until(document, min_ttl), float("inf") if limit is None else limit)

    def renew(self, name: str, job: RefreshRequest | None) -> Document:
        """Refresh now, or as the job asks."""
        job = job or self._due.job_for(name, forced=True)
        for _ in range(_ROUNDS):
            flight = self._engine.start(job)
            flight.wait(self._settings.wait + self._settings.timeout)
            if not flight.future.done():
                break
            fault = flight.future.exception()
            if fault is None and (flight.job is job or flight.future.result().granted):
                return flight.future.result().document
            if fault is not None and flight.job is job:
                raise self._own_copy(fault)
        raise _still_busy(name)

    def _steps(self, asked: str | None, min_ttl: float | None, refused: Secret | None = None) -> Steps:
        """Yield what to wait for, and return the credential; shared by `resolve` and `aresolve`.

        If the account in use was picked and is limited or can't serve, the next one of its provider is used.
        """
        self._watch.ensure_running()
        name = self._book.choose(asked)
        others = self._book.stand_ins(asked)
        limited = self._limited() if others else ()
        fault: TokenferryError | None = None
        if name not in limited or all(other in limited for other in others):
            try:
                return (yield from self._steps_of(name, (asked, name), min_ttl, refused))
            except (NeedsLogin, CredentialRefused, TryLater) as one:
                fault = one
        for other in others:
            if other in limited:
                continue
            try:
                credential = yield from self._steps_of(other, (other,), min_ttl)
            except TokenferryError:
                continue
            reason = fault or "it is limited; see: tokenferry cooldown list"
            logger.warning("account %s stands in for %s, which is in use: %s", other, name, reason)
            return credential
        if fault is not None:
            raise fault
        return (yield from self._steps_of(name, (asked, name), min_ttl, refused))

    def _steps_of(
        self, name: str, keys: tuple[str | None, ...], min_ttl: float | None, refused: Secret | None = None
    ) -> Steps:
        yield from self._key_run(name, refused)
        for _ in range(_ROUNDS):
            revision = self._warm.revision
            document = self._read_or_copy(name)
            job = self._due.job(name, document, min_ttl, refused)
            if job is None:
                self._refresh_early(name, document)
                self._keep(keys, document, revision)
                self._handed_out(document)
                return document.credential
            is_forced = job.refused is not None and not self._due.is_due(document.credential)
            if is_forced:
                self.forced.check(name)
            flight = self._engine.start(job)
            yield flight
            fault = flight.future.exception() if flight.future.done() else _still_busy(name)
            if fault is not None:
                if isinstance(fault, RefreshBusy) and flight.job.wait < job.wait:
                    continue  # an advisory flight, which doesn't wait for the lock
                living = self._fall_back(document, job, fault)
                if is_of_unknown_age(document):  # else every call would ask again until a renewal succeeds
                    self._warm.keep(keys, living, self._now() + ADVISORY_PAUSE, revision)
                return living
            result: Result = flight.future.result()
            if result.granted and is_forced and flight.job is job:
                self.forced.note(name)
            if result.granted or job.is_satisfied_by(result.document, self._now()):
                return result.document.credential  # not cached: it may have changed, and a read is cheap
        raise RefreshBusy(f"account {name!r}: its document changes faster than it can be read; try again")

    def _key_run(self, name: str, refused: Secret | None) -> Generator[Pending[Any], None, None]:
        """Yield the run that fetches the account's key, if one is needed."""
        if (pending := self._book.pending(name, refused)) is not None:
            yield pending
            if not pending.future.done():  # reading it now would block a thread while the command runs
                why = f"account {name!r}: its command is still running; try again in a moment"
                raise KeyCommandFailed(why, retry_after=1.0)

    def _read_or_copy(self, name: str) -> Document:
        try:
            return self._read(name)
        except NeedsLogin as fault:
            raise self._own_copy(fault) from None

    def _refresh_early(self, name: str, document: Document) -> None:
        job = self._due.early_job(name, document)
        try:
            if job is not None:
                self._engine.start(job)
        except TokenferryError as fault:
            logger.info("no early refresh: %s", fault)

    def _keep(self, keys: tuple[str | None, ...], document: Document, revision: object) -> None:
        """Cache what may be handed out without I/O until the next check."""
        until, limit = fresh_until(document.credential, self._now(), self._settings), too_old_at(document)
        self._warm.keep(keys, document.credential, until if limit is None else min(until, limit), revision)

    def _fall_back(self, document: Document, job: RefreshRequest, fault: BaseException) -> Credential:
        """Return the valid token that a refresh failed to renew, else the error to raise."""
        if isinstance(fault, TokenferryError) and self._due.is_usable(document.credential, job):
            logger.warning("the present token is used until it expires: %s", fault)
            return document.credential
        raise self._own_copy(fault)

    def _own_copy(self, fault: BaseException) -> BaseException:
        """Copy an error for one waiter: the waiters of a flight share it, and each raise would extend its traceback."""
        if not isinstance(fault, TokenferryError):
            return fault
        fault = copy(fault)
        if isinstance(fault, NeedsLogin) and (page := self._login_page()) is not None:
            fault.args = (f"{fault}{LOGIN_MARK}{page}",)
        return fault


def _next(steps: Steps) -> Pending[Any] | Credential:
    """Return the next thing to wait for, or the credential."""
    try:
        return next(steps)
    except StopIteration as end:
        credential: Credential = end.value
        return credential


def _still_busy(name: str) -> RefreshBusy:
    return RefreshBusy(f"account {name!r}: its refresh is still in flight; try again in a moment", retry_after=1.0)
