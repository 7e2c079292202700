"""Identity tokens as a workload's platform issues them, but without a signature."""

import base64
import json
from typing import Any

_PARTS = 3  # RFC 7519


def identity_token(account: str, expires_at: float) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": account, "exp": int(expires_at)})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*texts, "sandbox"))


def identity_claims(token: str) -> dict[str, Any]:
    """The claims of an identity token. Raises `ValueError` if it isn't a JWT."""
    parts = token.split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    if len(parts) != _PARTS or not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError
    return claims
