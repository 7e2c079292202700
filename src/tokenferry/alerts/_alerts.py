import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from tokenferry.alerts._webhook import send_alert
from tokenferry.background import PeriodicThread
from tokenferry.errors import TokenferryError
from tokenferry.settings import AlertKind, AlertSettings

logger = logging.getLogger(__name__)

_LOOK: Final = 30.0
_PAUSE: Final = 1.0
_HOUR: Final = 3600.0
_RETRY: Final = 300.0
_NEVER: Final = float("inf")
_MOST_WAITING: Final = 100


class Alert(NamedTuple):
    """One thing that a person should know. It holds no secret."""

    kind: AlertKind
    subject: str
    """What it is about: an account, a budget. Empty for all accounts."""
    message: str
    until: float | None = None
    """When it may be sent again, in seconds since 1970 UTC; None is an hour after it was sent."""
    stage: str = ""
    """Distinguishes causes of one kind and subject."""
    is_logged: bool = False
    """Whether the log already has it."""

    @property
    def cause(self) -> str:
        return f"{self.kind} {self.subject} {self.stage}".rstrip()


class Claims(Protocol):
    """Decides which of several processes sends an alert."""

    def claim(self, cause: str, now: float, until: float) -> bool:
        """Whether this process sends it; no other one does before `until`. Raises `StorageFailed`, `CorruptFile`."""
        ...

    def set_end(self, cause: str, until: float) -> None:
        """Allow the alert again from then on. Raises as `claim` does."""
        ...


class Alerts(PeriodicThread):
    """Sends alerts on a thread of its own: each cause at most once an hour, over all processes.

    `conditions` gives what is wrong now. It is called twice a minute, may read files, and only new conditions are sent.
    `add` takes events. Kinds that `[alerts] on` leaves out are dropped. A webhook that fails is a warning; a condition
    that still holds is sent again after 5 minutes, and an event for up to an hour.
    """

    def __init__(
        self,
        settings: AlertSettings,
        claims: Claims,
        conditions: Callable[[], Iterable[Alert]],
        *,
        send: Callable[[AlertSettings, Alert, float], str | None] = send_alert,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("tokenferry-alerts", self.look, _LOOK, pause=_PAUSE, trouble="no alert can be sent now")
        self._settings = settings
        self._claims = claims
        self._conditions = conditions
        self._send = send
        self._now = now
        self._events: deque[Alert] = deque()
        self._sent: dict[str, float] = {}
        """What holds and was sent, here or by another process, and when it may be sent again."""
        self._undelivered: dict[str, tuple[Alert, float]] = {}
        """Events that the webhook has not taken, and until when that is tried."""

    def adopt(self, settings: AlertSettings) -> None:
        """Go by these settings from the next alert on."""
        self._settings = settings

    def add(self, alert: Alert) -> None:
        """Send it soon; it is dropped if 100 wait already. Takes no lock: an event loop may call it."""
        if len(self._events) < _MOST_WAITING:
            self._events.append(alert)
            self.wake()

    def start(self, before: Callable[[], object] = lambda: None) -> None:
        super().start(before)
        self.wake()

    def look(self) -> None:
        """Send the events, those that were not delivered, and the conditions that are new."""
        while self._events:
            alert = self._events.popleft()
            if (again_at := self._deliver(alert)) < _NEVER:
                self._sent[alert.cause] = again_at
                self._undelivered[alert.cause] = alert._replace(is_logged=True), self._now() + _HOUR
        now = self._now()
        self._undelivered = {cause: one for cause, one in self._undelivered.items() if one[1] > now}
        undelivered = (alert for alert, _ in self._undelivered.values())
        standing = {alert.cause: alert for alert in (*undelivered, *self._conditions())}
        self._sent = {cause: at for cause, at in self._sent.items() if cause in standing and at > now}
        for cause, alert in standing.items():
            if cause not in self._sent:
                self._sent[cause] = self._deliver(alert)
                if self._sent[cause] == _NEVER:
                    self._undelivered.pop(cause, None)

    def _deliver(self, alert: Alert) -> float:
        """Send it if this process may; give the moment from which it may be sent again."""
        now, settings = self._now(), self._settings
        if alert.kind not in settings.on or not self._claim(alert, now):
            return _NEVER
        if not alert.is_logged:
            logger.warning("alert %s: %s", alert.kind, alert.message)
        if settings.webhook is None:
            return _NEVER
        if fault := self._send(settings, alert, now):
            logger.warning("an alert was not delivered: %s", fault)
            self._set_end(alert.cause, now + _RETRY)
            return now + _RETRY
        return _NEVER

    def _claim(self, alert: Alert, now: float) -> bool:
        try:
            return self._claims.claim(alert.cause, now, now + _HOUR if alert.until is None else alert.until)
        except TokenferryError as fault:
            logger.warning("an alert may be sent twice, for the other processes can't be asked: %s", fault)
            return True

    def _set_end(self, cause: str, until: float) -> None:
        try:
            self._claims.set_end(cause, until)
        except TokenferryError as fault:
            logger.warning("an alert is not repeated: %s", fault)
