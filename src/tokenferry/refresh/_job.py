"""What a refresh is asked for, what it gives, and what it knows of its surroundings."""

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
    """One wish for a better token.

    `refused` is the sha256 of an access token that was answered with 401, `superseded` that of one which shall be
    replaced though it works. `needs` and `wait` are in seconds: the life a token must have left to satisfy, and the
    longest wait for the lock. `forced` wants a grant whatever is there.
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
    """A flow's result: the document to use, whether its own grant made it, and whether it is stored safely."""

    document: Document
    granted: bool
    published: bool = True


class FlowContext(Struct, frozen=True):
    """What the flow knows of its surroundings."""

    endpoints: Callable[[Document], OAuthEndpoints]
    """The provider's endpoints. Raises `UnknownProvider`."""
    client_secret: Callable[[OAuthEndpoints], Secret | None]
    now: Callable[[], float]
    machine: str
    process: ProcessIdentity
    identify: Callable[[], ProcessIdentity] = ProcessIdentity.own
    """This process, asked again behind a fork."""
    is_gone: Callable[[ProcessIdentity], bool] = ProcessIdentity.is_gone
    identity: Callable[[Federation], Secret] = read_identity
    """A workload's identity token, as it is now. Raises `RefreshFailed`."""
    settings: RefreshSettings = field(default_factory=RefreshSettings)
    jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
    monotonic: Callable[[], float] = time.monotonic
    sightings: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By account: its refresh token (sha256) with a presentation of unknown outcome, and when this process saw that."""

    def first_saw(self, name: str, token: str) -> float:
        """When this process first saw that a presentation of this refresh token was not answered (monotonic)."""
        known, at = self.sightings.get(name, ("", 0.0))
        if known != token:
            at = self.monotonic()
            self.sightings[name] = token, at
        return at


def is_of_unknown_age(document: Document) -> bool:
    """Whether a token family is ours and its access token's expiry unknown, so that it is renewed at first use.

    A token family with another owner is renewed by that one's windows.
    """
    token = document.credential
    if not isinstance(token, OAuthToken) or document.account.owner != "tokenferry":
        return False
    return token.refresh is not None and token.expires_at is None


def seconds_left(token: OAuthToken, now: float) -> float:
    """Seconds until the access token expires; infinite when it isn't known to."""
    return float("inf") if token.expires_at is None else token.expires_at - now


def granted_ago(token: OAuthToken, now: float) -> float:
    """Seconds since a refresh made this access token; infinite if it came otherwise, by a login or an import."""
    return now - token.obtained_at if token.source == "refresh" and token.obtained_at is not None else float("inf")


def window(token: OAuthToken, seconds: float) -> float:
    """A window in seconds, no longer than half the life that the token was granted with."""
    return seconds if token.lifetime is None else min(seconds, token.lifetime / 2)


def log_in_again(account: Account) -> str:
    """The owner's login command, as the end of a sentence."""
    if account.owner == "claude-code":
        return "log in again with: claude /login"
    if account.owner == "ant":
        return f"log in again with: ant auth login --profile {account.labels.get('profile', account.name)}"
    if account.owner == "external":
        return "the program it comes from has to renew it"
    if account.kind == FederatedToken.kind:
        return f"see what its identity token is worth with: tokenferry refresh {account.name}"
    if account.kind == ExchangedToken.kind:
        return (
            f"get another token with: tokenferry login {account.name}; or, if what it lacked is there now, "
            f"ask again with: tokenferry refresh {account.name}"
        )
    return f"log in again with: tokenferry login {account.name}"
