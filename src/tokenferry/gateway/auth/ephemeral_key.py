import hmac
import secrets
import time
from hashlib import sha256

from tokenferry.secret import Secret
from tokenferry.state import INFERENCE_PREFIX, ClientKey


class EphemeralKey:
    """A key ring with one key, which exists only in this process's memory."""

    def __init__(self, key_id: str = "key_one_off", name: str = "one-off") -> None:
        self.secret = Secret(INFERENCE_PREFIX + secrets.token_urlsafe(32))
        self._digest = bytes.fromhex(self.secret.sha256)
        self._key = ClientKey(key_id, name, "client", created_at=int(time.time()), fingerprint=self.secret.fingerprint)
        self.listed = (self._key,)
        """The key."""

    def verify(self, presented: str) -> ClientKey | None:
        digest = sha256(presented.encode("utf-8", "surrogatepass")).digest()
        return self._key if hmac.compare_digest(digest, self._digest) else None

    def expired(self, presented: str) -> ClientKey | None:  # noqa: ARG002  # it never expires
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True
