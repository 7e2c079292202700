from typing import Final

from tokenferry.errors import (
    ConfigError,
    Conflict,
    CredentialRefused,
    LoginFailed,
    NeedsLogin,
    PolicyRefused,
    TokenferryError,
    TryLater,
    UnknownName,
    UsageError,
)

_STATUSES: Final = (
    (UnknownName, 404),
    (PolicyRefused, 403),
    (TryLater, 503),
    (NeedsLogin, 409),
    (CredentialRefused, 409),
    (Conflict, 409),
    (UsageError, 400),
    (LoginFailed, 400),
    (ConfigError, 400),
)


def status_of(fault: TokenferryError) -> int:
    """Return the HTTP status of a failed action."""
    return next((status for kind, status in _STATUSES if isinstance(fault, kind)), 500)
