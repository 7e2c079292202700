import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, Self

from tokenferry.accounts import aging
from tokenferry.background import PeriodicThread
from tokenferry.background_refresh._alive import mark_round, renewer_lock
from tokenferry.background_refresh._event import Kind, RenewalEvent, log
from tokenferry.background_refresh._schedule import Moment, Renewal, Schedule, is_dead
from tokenferry.background_refresh._switch import ClaudeCodeSwitcher
from tokenferry.broker import Broker, Published, complete_move
from tokenferry.errors import LockTimeout, TokenferryError, UnknownAccount, UsageError
from tokenferry.refresh import RefreshRequest
from tokenferry.settings import BackgroundRefreshSettings
from tokenferry.stores import DISK, Document
from tokenferry.units import span

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 4
_LOCK_SHARE: Final = 0.9
_MOVE_WAIT: Final = 1.0
_MOVE: Final = ":move"  # no account's name
_AGE: Final = ":age "  # as above
_DEFECT_PAUSE: Final = 60.0
_LAST_LOOK: Final = 5.0


class Renewer:
    """Renews a home's logins though no program asks for them, and updates published profiles.

    It renews what `next_renewal` says, rewrites outdated profiles, and completes interrupted moves. It sees changes by
    others within a second. Only one renewer of a home works; others wait for its end. `tell` gets each event, on any
    thread. With `swaps` it also gives Claude Code another account when the present one is limited. Clocks are as for
    `Broker`; `steady` is for waits.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        settings: BackgroundRefreshSettings | None = None,
        tell: Callable[[RenewalEvent], None] = log,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        swaps: bool = False,
    ) -> None:
        if broker.home is None:
            raise UsageError("logins are kept in a home of files alone")
        self._broker = broker
        self._home = broker.home
        self._settings = settings or BackgroundRefreshSettings()
        self._tell_of = tell
        self._now = now
        self._steady = steady
        self._lock = renewer_lock(broker.home)
        self._schedule = Schedule(self._settings, random.random())  # noqa: S311  # spreads retries, guards nothing
        self.fault: TokenferryError | None = None
        """Why no renewer can run here: the home allows no lock."""
        self._ending = threading.Event()
        self._thread = PeriodicThread(
            "tokenferry-renewer",
            self._look,
            self._settings.look,
            at_end=True,
            trouble="no renewer refreshes the logins here",
        )
        self._is_keeping = self._is_reported = False
        self._paused_until = float("-inf")
        self._renewing: dict[str, threading.Thread] = {}
        self._done: SimpleQueue[tuple[Renewal, Document | TokenferryError]] = SimpleQueue()
        self._documents: list[Document] = []
        self._published: frozenset[str] = frozenset()
        self._profiles: dict[Hashable, Published] = {}
        self._reported: dict[str, str] = {}
        self._stamps: Hashable = None
        self._next_sweep = float("-inf")
        self._swaps = swaps
        self._swapper: ClaudeCodeSwitcher | None = None

    def once(self) -> bool:
        """Do everything that is due, and wait for it. Gives False if another process is the renewer.

        Raises `UnsafeFile`, `StorageFailed`.
        """
        if not self._lock.try_acquire():
            return False
        try:
            while self.step():
                next(iter(self._renewing.values())).join(self._settings.look)
            mark_round(self._home)
        finally:
            self._end_swapping()
            self._lock.release()
        return True

    def stop(self, wait: float = 0.0) -> None:
        """Stop, and wait up to `wait` seconds for the present check; from any thread.

        A renewal in progress continues; the broker's `drain` waits for it.
        """
        self._ending.set()
        self._thread.stop(wait)

    def has_ended(self, seconds: float) -> bool:
        """Wait this long for its end, by `stop` or a `fault`."""
        return self._ending.wait(seconds)

    def step(self) -> bool:
        """Begin everything that is due, without waiting; tell whether anything is in progress."""
        now = Moment(self._now(), self._steady())
        if moved := self._schedule.observe(now):
            self._tell("clock", f"the clock moved by {moved:.0f} s, or the machine slept; looking again in a moment")
        self._collect(now)
        stamps = self._look_at_stamps()
        if stamps != self._stamps or now.steady >= self._next_sweep:
            self._stamps, self._next_sweep = stamps, now.steady + self._settings.sweep
            self._sweep()
        plan = self._schedule.plan(self._documents, self._published, now)
        free = [renewal for renewal in self._schedule.due(plan, now) if renewal.name not in self._renewing]
        for renewal in free[: _AT_ONCE - len(self._renewing)]:
            if not self._ending.is_set():
                self._start(renewal)
        if self._swaps and not self._ending.is_set():
            self._swap()
        return bool(self._renewing)

    @contextlib.contextmanager
    def in_background(self) -> Iterator[Self]:
        """Renew on a thread during the block, once no other process does."""
        self._thread.wake()
        self._thread.start()
        try:
            yield self
        finally:
            self.stop(_LAST_LOOK)

    # -- whose turn it is

    def _look(self) -> None:
        """Take the lock if it is free, do a step if this is the renewer, and release the lock at the end."""
        if self._ending.is_set() or (self._is_keeping and not self._lock.is_still_ours()):
            self._is_keeping = False
            self._end_swapping()
            self._lock.release()
        elif self._is_keeping or self._take_turn():
            self._guarded(self.step)

    def _take_turn(self) -> bool:
        """Take the lock; False while another process has it."""
        try:
            self._is_keeping = self._lock.try_acquire()
        except TokenferryError as fault:
            self.fault = fault
            self._ending.set()
            raise
        if self._is_keeping:
            self._begin()
        elif not self._is_reported:
            self._tell("waiting", f"{self._lock.holder()} refreshes the logins here; waiting to take over from it")
        self._is_reported = not self._is_keeping
        return self._is_keeping

    def _begin(self) -> None:
        """Look at everything, and report which logins there are to renew."""
        now = Moment(self._now(), self._steady())
        self._stamps, self._next_sweep = self._look_at_stamps(), now.steady + self._settings.sweep
        self._guarded(self._sweep)
        plan = self._schedule.plan(self._documents, self._published, now)
        if not plan:
            self._tell("watching", f"nothing in {self._home.path} is to be renewed yet; new accounts are noticed")
            return
        count = f"{len(plan)} login{'s' * (len(plan) > 1)}"
        published = sum(renewal.name in self._published for renewal in plan)
        first = plan[0]
        when = f"in {span(first.at - now.wall)}" if first.at > now.wall else "now"
        self._tell("watching", f"keeping {count}, {published} of them published; next is {first.name}, {when}")

    # -- one look

    def _guarded(self, action: Callable[[], object]) -> None:
        """Log any error, so that renewing goes on."""
        if self._steady() < self._paused_until:
            return
        try:
            action()
        except TokenferryError as fault:
            self._tell_once("", "broken", str(fault))
        except Exception as fault:  # noqa: BLE001  # a defect in one look is no reason to let all logins lapse
            kind = type(fault).__name__
            self._tell_once(
                "", "internal-error", f"looking after the logins failed with {kind}, a defect in tokenferry"
            )
            self._paused_until = self._steady() + _DEFECT_PAUSE
        else:
            self._reported.pop("", None)

    def _look_at_stamps(self) -> Hashable:
        """Give a value that changes when an account, a publication, the local key or a move does.

        If that can't be read, the value stays.
        """
        home = self._home
        try:
            stamps = (
                *self._broker.book.known.stamps().items(),
                *DISK.stamps(home.published).items(),
                ("local key", home.local_key.stat().st_mtime_ns if home.local_key.exists() else None),
                ("move", home.move_to_claude_code.exists()),
            )
        except (TokenferryError, OSError) as fault:
            logger.debug("the home can't be examined: %s", type(fault).__name__)
            return self._stamps
        return frozenset(stamps)

    def _sweep(self) -> None:
        """Complete what others left unfinished, and read which logins there are to renew."""
        self._complete_move()
        names = self._broker.book.known.names()
        current = {"", _MOVE, *names, *(f"{_AGE}{name}" for name in names)}
        self._reported = {about: text for about, text in self._reported.items() if about in current}
        self._documents = [document for name in names if (document := self._read(name))]
        self._look_at_ages()
        self._look_at_profiles()

    def _swap(self) -> None:
        if self._swapper is None:
            self._swapper = ClaudeCodeSwitcher(self._broker, self._home, tell=self._tell_of_swap, now=self._now)
        self._swapper.look()

    def _tell_of_swap(self, text: str, account: str | None, *, needs_help: bool) -> None:
        self._tell_of(RenewalEvent(int(self._now()), "switch", text, account=account, needs_help=needs_help))

    def _end_swapping(self) -> None:
        if self._swapper is not None:
            self._swapper.close()
            self._swapper = None

    def _complete_move(self) -> None:
        try:
            if complete_move(self._home, _MOVE_WAIT):
                self._tell("move", "the move of a login to Claude Code, which was cut short, is complete")
        except LockTimeout as fault:
            logger.debug("somebody is at that move: %s", fault)
        except TokenferryError as fault:
            self._tell_once(_MOVE, "broken", f"a move to Claude Code was cut short and can't be completed: {fault}")

    def _read(self, name: str) -> Document | None:
        try:
            document = self._broker.book.read(name, known=True)
        except UnknownAccount:
            return None
        except TokenferryError as fault:
            self._tell_once(name, "broken", str(fault), account=name)
            return None
        self._reported.pop(name, None)
        return document

    def _look_at_ages(self) -> None:
        """Report once that an account's credential will soon be too old, and once that it is.

        A login that is about to be renewed is left out, because only a failure of that matters.
        """
        now = Moment(self._now(), self._steady())
        due = {one.name for one in self._schedule.due(self._schedule.plan(self._documents, self._published, now), now)}
        for document in self._documents:
            name, end = document.account.name, aging(document)
            is_renewed = end is None or (end.cause == "refresh-token" and name in due | self._renewing.keys())
            text = "" if end is None or is_renewed else end.text(now.wall)
            if text:
                self._tell_once(f"{_AGE}{name}", "aging", f"account {name}: {text}", account=name)
            else:
                self._reported.pop(f"{_AGE}{name}", None)

    def _look_at_profiles(self) -> None:
        found = self._broker.publisher.published()
        behind = {one.publication.config for one in found if one.standing.state == "behind"}
        if any(one.standing.state in {"behind", "held"} for one in found):
            found = self._broker.republish()
        before, self._profiles = self._profiles, {one.publication.config: one for one in found}
        for config, one in self._profiles.items():
            publication, standing = one.publication, one.standing
            last = before.get(config)
            if standing.state == "current" and config in behind and publication.account not in self._renewing:
                self._tell_of_profile(one, f"profile {publication.profile}: was behind {publication.source}, rewritten")
            elif standing.state != "current" and (last is None or last.standing.text != standing.text):
                text = f"profile {publication.profile} of {publication.source}: {standing.text}"
                self._tell_of_profile(one, text, needs_help=True)
        states = {"current", "behind"}
        self._published = frozenset(
            one.publication.account for one in found if one.publication.account and one.standing.state in states
        )

    # -- renewals

    def _start(self, renewal: Renewal) -> None:
        name = f"tokenferry-keep-{renewal.name}"
        thread = threading.Thread(target=self._renew, args=(renewal,), name=name, daemon=True)
        self._renewing[renewal.name] = thread
        thread.start()

    def _renew(self, renewal: Renewal) -> None:
        """Replace the token on a thread of its own, unless another process has done that."""
        name, wait = renewal.name, self._broker.settings.wait * _LOCK_SHARE
        outcome: Document | TokenferryError
        try:
            outcome = self._broker.renew(name, RefreshRequest(name, wait=wait, superseded=renewal.token.secret.sha256))
            self._broker.republish(name)
        except TokenferryError as fault:
            outcome = fault
        except Exception as fault:  # noqa: BLE001  # the schedule must hear of it
            kind = type(fault).__name__
            outcome = TokenferryError(f"account {renewal.name!r} was not renewed: {kind}, a defect in tokenferry")
        self._done.put((renewal, outcome))
        self._thread.wake()

    def _collect(self, now: Moment) -> None:
        """Note the results of renewals that have ended."""
        with contextlib.suppress(Empty):
            while True:
                renewal, outcome = self._done.get_nowait()
                self._renewing.pop(renewal.name, None)
                if isinstance(outcome, Document):
                    self._schedule.succeeded(renewal.name)
                    self._documents = [outcome if one.account.name == renewal.name else one for one in self._documents]
                    self._tell_of_grant(renewal.name, outcome, now)
                elif isinstance(outcome, UnknownAccount) or self._ending.is_set():
                    continue  # removed since, or refused because this process ends
                elif self._schedule.failed(renewal, outcome, now):
                    kind: Kind = "needs-login" if is_dead(outcome) else "failed"
                    self._tell(kind, str(outcome), account=renewal.name)

    # -- words

    def _tell_of_grant(self, name: str, document: Document, now: Moment) -> None:
        credential = document.credential
        expires_at = credential.expires_at
        life = "" if expires_at is None else f", which expires in {span(expires_at - now.wall)}"
        self._tell(
            "refreshed",
            f"account {name}: has a new token{life}",
            account=name,
            fingerprint=credential.secret.fingerprint,
            expires_at=expires_at,
        )

    def _tell_of_profile(self, one: Published, text: str, *, needs_help: bool = False) -> None:
        self._tell_of(
            RenewalEvent(
                int(self._now()),
                "profile",
                text,
                account=one.publication.account,
                profile=one.publication.profile,
                fingerprint=one.fingerprint,
                expires_at=one.expires_at,
                needs_help=needs_help,
            )
        )

    def _tell_once(self, about: str, kind: Kind, text: str, *, account: str | None = None) -> None:
        if self._reported.get(about) != text:
            self._reported[about] = text
            self._tell(kind, text, account=account)

    def _tell(self, kind: Kind, text: str, **details: str | int | None) -> None:
        self._tell_of(RenewalEvent(int(self._now()), kind, text, **details))  # type: ignore[arg-type]  # by their names
