import logging
from typing import Final, Literal, TypeAlias

from msgspec import Struct

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal[
    "watching",
    "waiting",
    "refreshed",
    "failed",
    "needs-login",
    "broken",
    "aging",
    "profile",
    "move",
    "switch",
    "clock",
    "internal-error",
]

_TROUBLE: Final = {"failed", "needs-login", "broken", "aging", "internal-error"}


class RenewalEvent(Struct, frozen=True):
    """An event of a renewer. `at` and `expires_at` are seconds since 1970 UTC; it contains no secret."""

    at: int
    kind: Kind
    text: str
    account: str | None = None
    profile: str | None = None
    fingerprint: str | None = None
    expires_at: int | None = None
    needs_help: bool = False
    """Whether only a person can fix it."""

    @property
    def is_trouble(self) -> bool:
        return self.needs_help or self.kind in _TROUBLE


def log(event: RenewalEvent) -> None:
    """Write the event to the log."""
    if event.kind == "waiting":
        logger.debug("%s", event.text)
    elif event.is_trouble:
        logger.warning("%s", event.text)
    else:
        logger.info("%s", event.text)
