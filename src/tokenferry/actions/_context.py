from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tokenferry.broker import Broker
from tokenferry.limits import LimitState
from tokenferry.readiness import RouteExplanation, RouteQuestion
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import ClientKey, ClientKeys, Role, StartedLogins, State
from tokenferry.views import LedgerReader, RunningRequests

CALLBACK: Final = "/oauth/callback"
LOGIN_PAGE: Final = "/login"


def _viewer(_: str) -> Role:
    return "viewer"


def _no_states() -> Mapping[str, str]:
    return {}


def _nothing(_: ClientKey) -> list[dict[str, Any]]:
    return []


async def _no_explanation(_: ClientKey, __: RouteQuestion) -> RouteExplanation:
    return RouteExplanation(503, "nothing is served here")


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What the API reads and changes of a gateway.

    `secret` derives logins' verifiers, for any gateway of this home. `urls` are its addresses, `hosts` the `Host`
    values that it accepts; `states` gives each account's state in a word, by name.
    """

    home: Home
    broker_source: Broker | Callable[[], Broker]
    """The broker, or a function that opens it at first use."""
    state_source: State | Callable[[], State]
    secret: Secret
    urls: tuple[str, ...] = ()
    hosts: Container[bytes] = frozenset()
    states: Callable[[], Mapping[str, str]] = field(default=_no_states)
    readiness: Callable[[ClientKey], list[dict[str, Any]]] = field(default=_nothing)
    """What requests with a client key get now, by model."""
    limits: Callable[[str], LimitState | None] = field(default=lambda _: None)
    """The last limits reported by an account's provider, by the account's name."""

    explain: Callable[[ClientKey, RouteQuestion], Awaitable[RouteExplanation]] = field(default=_no_explanation)
    """Explains where a request would go, as far as the asking key may know."""

    running: Callable[[], RunningRequests] = field(default=RunningRequests)
    """The running requests."""
    public_url: str | None = None
    """`[server] public_url` at the gateway's start."""
    role_of: Callable[[str], Role] = field(default=_viewer)
    """The dashboard role of a user that a trusted proxy names."""
    is_ending: Callable[[], bool] = field(default=lambda: False)
    """Whether the gateway is ending, so that long requests must stop."""
    books: LedgerReader = field(init=False)
    """Reads the ledger."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "books", LedgerReader(self.home))

    @property
    def broker(self) -> Broker:
        if not isinstance(self.broker_source, Broker):
            object.__setattr__(self, "broker_source", self.broker_source())
        assert isinstance(self.broker_source, Broker)
        return self.broker_source

    @property
    def state(self) -> State:
        if not isinstance(self.state_source, State):
            object.__setattr__(self, "state_source", self.state_source())
        assert isinstance(self.state_source, State)
        return self.state_source

    @property
    def keys(self) -> ClientKeys:
        return self.state.keys

    @property
    def logins(self) -> StartedLogins:
        return self.state.logins

    @property
    def base(self) -> str | None:
        """The address for browsers: the public URL if there is one; None for a Unix socket alone."""
        return self.public_url or next((url for url in self.urls if url.startswith("http")), None)

    def is_own_callback(self, redirect_uri: str) -> bool:
        """Whether a redirect leads back to this gateway."""
        parts = urlsplit(redirect_uri)
        return parts.path == CALLBACK and parts.netloc.lower().encode() in self.hosts
