import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from tokenferry.oauth import Authorization, OAuthEndpoints
from tokenferry.secret import Secret

_LIFETIME: Final = 600.0
_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that was begun and waits for its answer. `until` is by a monotonic clock, in seconds."""

    provider: str
    authorization: Authorization
    until: float
    session: str = field(repr=False)


class PendingLogins:
    """The logins that this process began for others and that are not answered yet. Thread-safe.

    Each is known by its state, of which only the digest is the key, is good once, for ten minutes, and in the session
    that began it. Of more than a thousand the oldest are given up. They lie in memory alone, as the verifiers have to.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._pending: dict[str, PendingLogin] = {}

    @property
    def lifetime(self) -> float:
        """For how many seconds a login waits."""
        return _LIFETIME

    def begin(
        self, provider: str, endpoints: OAuthEndpoints, session: Secret, scopes: tuple[str, ...] | None = None
    ) -> Authorization:
        """Begin a login at the provider of that name; its state is the only way back to it."""
        authorization = Authorization.begin(endpoints, scopes)
        now = self._monotonic()
        login = PendingLogin(provider, authorization, now + _LIFETIME, session.sha256)
        with self._guard:
            self._drop_old(now)
            self._pending[authorization.state.sha256] = login
        return authorization

    def take(self, state: str, session: Secret) -> PendingLogin | None:
        """Give the login of this state, once; None if there is none (any more), or it is another session's.

        Whoever presents a state has used it up.
        """
        key = sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
        del state  # a traceback shows the locals of this frame
        with self._guard:
            login = self._pending.pop(key, None)
        if login is None or self._monotonic() >= login.until:
            return None
        return login if hmac.compare_digest(login.session, session.sha256) else None

    def __len__(self) -> int:
        return len(self._pending)

    def _drop_old(self, now: float) -> None:
        """Make room for one more."""
        for key in [key for key, login in self._pending.items() if login.until <= now]:
            del self._pending[key]
        while len(self._pending) >= _MOST:
            del self._pending[next(iter(self._pending))]
