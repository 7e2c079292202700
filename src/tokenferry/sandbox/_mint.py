import base64
import hashlib
import hmac
import secrets
from collections import Counter

_DIGITS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628, 6.1: no vowels, so no words


def fingerprint(secret: str) -> str:
    """8 hex digits that are shown instead of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def fixed(label: str, length: int) -> str:
    """Url-safe characters that depend only on `label`."""
    return _stream(b"tokenferry sandbox", label, length)


def _stream(key: bytes, label: str, length: int) -> str:
    raw = b""
    block = 0
    while len(raw) * 4 // 3 < length:
        raw += hmac.digest(key, f"{label}|{block}".encode(), "sha256")
        block += 1
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")[:length]


class Mint:
    """Makes tokens, codes and ids: random ones, or with a seed the same sequence of each kind every time."""

    def __init__(self, seed: int | str | None) -> None:
        self._key = None if seed is None else str(seed).encode()
        self._made: Counter[str] = Counter()

    def text(self, kind: str, length: int) -> str:
        self._made[kind] += 1
        if self._key is None:
            return secrets.token_urlsafe(length)[:length]
        return _stream(self._key, f"{kind}|{self._made[kind]}", length)

    def token(self, prefix: str) -> str:
        """Make a token in the vendor's form, marked as the sandbox's."""
        return f"{prefix}sandbox-{self.text(prefix, 92)}"

    def user_code(self) -> str:
        raw = hashlib.sha256(self.text("user code", 43).encode()).digest()[:8]
        letters = "".join(_DIGITS[byte % len(_DIGITS)] for byte in raw)
        return f"{letters[:4]}-{letters[4:]}"

    def identifier(self, prefix: str) -> str:
        return prefix + self.text(prefix, 24).replace("-", "A").replace("_", "B")
