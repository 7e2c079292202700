"""A virtual authorization server: rotating single-use refresh tokens, whose second presentation kills the family."""

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tokenferry.oauth import TokenResponse


@dataclass
class Family:
    """One login: which refresh token is live, and when each used one was used (server time)."""

    live: str
    access: str
    used: dict[str, float] = field(default_factory=dict)
    is_revoked: bool = False


@dataclass
class Presentation:
    """One arrival of a refresh token."""

    token: str
    at: float
    rotated: bool
    status: int


@dataclass
class Server:
    """Counts what the invariants speak of."""

    lifetime: int = 3600
    grace: float = 0.0
    families: list[Family] = field(default_factory=list)
    presentations: list[Presentation] = field(default_factory=list)
    grants: int = 0
    reuses: int = 0
    serial: int = 0

    def login(self) -> dict[str, str]:
        """Begin a family, as a person's login does."""
        family = Family(self._token("ref"), self._token("acc"))
        self.families.append(family)
        return {"access_token": family.access, "refresh_token": family.live}

    def family_of(self, refresh: str) -> Family | None:
        return next((one for one in self.families if refresh == one.live or refresh in one.used), None)

    def is_live(self, refresh: str | None) -> bool:
        """Whether a login still hangs on this refresh token."""
        return refresh is not None and any(one.live == refresh and not one.is_revoked for one in self.families)

    def accepts(self, access: str) -> bool:
        """Whether the API takes this access token (its expiry apart)."""
        return any(one.access == access and not one.is_revoked for one in self.families)

    def revoke_access(self) -> None:
        """The server revokes early: every access token answers 401 from now on."""
        for family in self.families:
            family.access = self._token("gone")

    def handle(self, body: bytes, now: float, *, fail: int | None = None, odd: bool = False) -> TokenResponse:
        """Take one refresh grant. `fail` answers with that status, having done nothing; `odd` with a number."""
        refresh = _refresh_token(body)
        if fail is not None:
            self.presentations.append(Presentation(refresh, now, rotated=False, status=fail))
            return _answer(fail, {"error": "server_error"})
        family = self.family_of(refresh)
        if family is None or family.is_revoked:
            return self._deny(refresh, now)
        if refresh != family.live:
            if now - family.used[refresh] > self.grace:
                self.reuses += 1
                family.is_revoked = True
                return self._deny(refresh, now)
        else:
            family.used[refresh] = now
        family.live, family.access = self._token("ref"), self._token("acc")
        self.grants += 1
        self.presentations.append(Presentation(refresh, now, rotated=True, status=200))
        fields: dict[str, object] = {"access_token": family.access, "refresh_token": 17 if odd else family.live}
        fields["expires_in"] = self.lifetime
        return _answer(200, fields)

    def _deny(self, refresh: str, now: float) -> TokenResponse:
        self.presentations.append(Presentation(refresh, now, rotated=False, status=400))
        return _answer(400, {"error": "invalid_grant"})

    def _token(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}-{self.serial}"


def _refresh_token(body: bytes) -> str:
    if body.startswith(b"{"):
        return str(json.loads(body)["refresh_token"])
    return parse_qs(body.decode())["refresh_token"][0]


def _answer(status: int, fields: dict[str, object]) -> TokenResponse:
    return TokenResponse(status, {"content-type": "application/json"}, json.dumps(fields).encode())
