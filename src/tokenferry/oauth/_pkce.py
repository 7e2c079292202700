"""PKCE with S256 (RFC 7636), the only method used."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from tokenferry.secret import Secret

_BYTES: Final = 32


def new_verifier() -> Secret:
    """A code verifier of 256 random bits (RFC 7636 4.1)."""
    return Secret(secrets.token_urlsafe(_BYTES))


def challenge_of(verifier: Secret) -> str:
    """Return the code challenge of a verifier, for the authorization request."""
    digest = sha256(verifier.reveal().encode("ascii")).digest()
    return urlsafe_b64encode(digest).decode("ascii").rstrip("=")
