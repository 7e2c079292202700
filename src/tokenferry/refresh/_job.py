"""The request for a refresh, its result, and the context it runs in."""

import random
import time
from collections.abc import Callable

from msgspec import Struct, field

from tokenferry.credentials import ExchangedToken, FederatedToken, Federation, OAuthToken
from tokenferry.oauth import OAuthEndpoints
from tokenferry.refresh._identity import read_identity
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings
from tokenferry.stores import Account, Document, ProcessIdentity


class RefreshRequest(Struct, frozen=True):
    """A request for a token that lives longer, or is another one.

    `refused` is the sha256 of an access token that was answered with 401, `superseded` that of a working one to
    replace. `needs` is the life in seconds that a token must have left, `wait` the longest wait for the lock in
    seconds. `forced` asks for a grant in any case.
    """

    name: str
    needs: float = 0.0
    wait: float = 60.0
    refused: str | None = None
    superseded: str | None = None
    forced: bool = False

    def is_satisfied_by(self, document: Document, now: float) -> bool:
        token = document.credential
        if self.forced or token.secret.sha256 in {self.refused, self.superseded}:
            return False
        if not isinstance(token, OAuthToken):
            return True
        return not is_of_unknown_age(document) and seconds_left(token, now) > window(token, self.needs)


class Result(Struct, frozen=True):
    """A flow's result: the document to use, whether the flow's own grant made it, and whether it is in the store."""

    document: Document
    granted: bool
    published: bool = True


class FlowContext(Struct, frozen=True):
    """What the flow needs from outside: endpoints, clocks, the identities of machine and process."""

    endpoints: Callable[[Document], OAuthEndpoints]
    """The provider's endpoints. Raises `UnknownProvider`."""
    client_secret: Callable[[OAuthEndpoints], Secret | None]
    now: Callable[[], float]
    machine: str
    process: ProcessIdentity
    identify: Callable[[], ProcessIdentity] = ProcessIdentity.own
    """This process's identity; called again after a fork."""
    is_gone: Callable[[ProcessIdentity], bool] = ProcessIdentity.is_gone
    identity: Callable[[Federation], Secret] = read_identity
    """Gives a workload's present identity token. Raises `RefreshFailed`."""
    settings: RefreshSettings = field(default_factory=RefreshSettings)
    jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
    monotonic: Callable[[], float] = time.monotonic
    sightings: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By account: the refresh token (sha256) with an unanswered presentation, and when this process first saw that."""

    def first_saw(self, name: str, token: str) -> float:
        """When this process first saw that a presentation of this refresh token was not answered (monotonic)."""
        known, at = self.sightings.get(name, ("", 0.0))
        if known != token:
            at = self.monotonic()
            self.sightings[name] = token, at
        return at


def is_of_unknown_age(document: Document) -> bool:
    """Whether the token family is ours and its access token's expiry unknown, so that it is renewed at first use.

    The owner of another token family decides when to renew it.
    """
    token = document.credential
    if not isinstance(token, OAuthToken) or document.account.owner != "tokenferry":
        return False
    return token.refresh is not None and token.expires_at is None


def seconds_left(token: OAuthToken, now: float) -> float:
    """Seconds until the access token expires; infinite when its expiry is unknown."""
    return float("inf") if token.expires_at is None else token.expires_at - now


def granted_ago(token: OAuthToken, now: float) -> float:
    """Seconds since a refresh made this access token; infinite if it came by a login or an import."""
    return now - token.obtained_at if token.source == "refresh" and token.obtained_at is not None else float("inf")


def window(token: OAuthToken, seconds: float) -> float:
    """Return a window in seconds, at most half the token's lifetime."""
    return seconds if token.lifetime is None else min(seconds, token.lifetime / 2)


def log_in_again(account: Account) -> str:
    """Return the command that logs in again, as the end of a sentence."""
    if account.owner == "claude-code":
        return "log in again with: claude /login"
    if account.owner == "ant":
        return f"log in again with: ant auth login --profile {account.labels.get('profile', account.name)}"
    if account.owner == "external":
        return "renew it in the program that it comes from"
    if account.kind == FederatedToken.kind:
        return f"check its identity token with: tokenferry refresh {account.name}"
    if account.kind == ExchangedToken.kind:
        return (
            f"get another token with: tokenferry login {account.name}; or, after fixing the cause at the vendor, "
            f"try again with: tokenferry refresh {account.name}"
        )
    return f"log in again with: tokenferry login {account.name}"
