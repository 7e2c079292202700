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
_MOST_WAITING: Final = 100


class Alert(NamedTuple):
    """What somebody should know. Nothing in it is secret."""

    kind: AlertKind
    subject: str
    """What it is about: an account, a budget. Empty for all accounts."""
    message: str
    until: float | None = None
    """Until when it is not said again, in seconds since 1970 UTC; None is an hour from when it is said."""
    stage: str = ""
    """What makes it another cause than an earlier one about the same."""
    is_logged: bool = False
    """Whether the log has it already."""

    @property
    def cause(self) -> str:
        return f"{self.kind} {self.subject} {self.stage}".rstrip()


class Claims(Protocol):
    """Decides between processes which of them says what."""

    def claim(self, cause: str, now: float, until: float) -> bool:
        """Tell whether this process says it; no other one does until then. Raises `StorageFailed`, `CorruptFile`."""
        ...

    def set_end(self, cause: str, until: float) -> None:
        """Let it be said again from then on. Raises as `claim` does."""
        ...


class Alerts(PeriodicThread):
    """Says each cause once, at most once an hour over all processes, on a thread of its own.

    `conditions` gives what is wrong now; it is called twice a minute, and may read files. Of those only what is new is
    said. `add` takes what has just happened. What `[alerts] on` leaves out is not said. A webhook that fails is a
    warning, and the alert is said again after 5 minutes if it still holds.
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
        super().__init__("tokenferry-alerts", self.look, _LOOK, pause=_PAUSE, trouble="alerts can't be decided on now")
        self._settings = settings
        self._claims = claims
        self._conditions = conditions
        self._send = send
        self._now = now
        self._events: deque[Alert] = deque()
        self._said: dict[str, float] = {}
        """Causes that hold and are said, here or by another process, and when they are looked at again."""

    def adopt(self, settings: AlertSettings) -> None:
        """Go by these settings from the next alert on."""
        self._settings = settings

    def add(self, alert: Alert) -> None:
        """Have it said soon; beyond 100 that wait it is dropped. Takes no lock: an event loop may call it."""
        if len(self._events) < _MOST_WAITING:
            self._events.append(alert)
            self.wake()

    def start(self, before: Callable[[], object] = lambda: None) -> None:
        super().start(before)
        self.wake()

    def look(self) -> None:
        """Say what has happened, and what is newly wrong."""
        while self._events:
            self._say(self._events.popleft())
        standing = {alert.cause: alert for alert in self._conditions()}
        now = self._now()
        self._said = {cause: at for cause, at in self._said.items() if cause in standing and at > now}
        for cause, alert in standing.items():
            if cause not in self._said:
                self._said[cause] = self._say(alert)

    def _say(self, alert: Alert) -> float:
        """Give the moment from which it may be said again, if it still holds."""
        now, settings = self._now(), self._settings
        if alert.kind not in settings.on or not self._claim(alert, now):
            return float("inf")
        if not alert.is_logged:
            logger.warning("alert %s: %s", alert.kind, alert.message)
        if settings.webhook is None:
            return float("inf")
        if fault := self._send(settings, alert, now):
            logger.warning("an alert was not delivered: %s", fault)
            self._set_end(alert.cause, now + _RETRY)
            return now + _RETRY
        return float("inf")

    def _claim(self, alert: Alert, now: float) -> bool:
        try:
            return self._claims.claim(alert.cause, now, now + _HOUR if alert.until is None else alert.until)
        except TokenferryError as fault:
            logger.warning("whether another process has said an alert is not known, so it is said here: %s", fault)
            return True

    def _set_end(self, cause: str, until: float) -> None:
        try:
            self._claims.set_end(cause, until)
        except TokenferryError as fault:
            logger.warning("an alert is not repeated: %s", fault)
