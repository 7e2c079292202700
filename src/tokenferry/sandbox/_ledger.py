import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tokenferry.sandbox._accounts import (
    ACCESS_PREFIX,
    ACCOUNTS,
    KEY_PREFIX,
    LONG_LIVED_PREFIX,
    REFRESH_PREFIX,
    SETUP_LIFETIME,
    SETUP_SCOPE,
)
from tokenferry.sandbox._mint import Mint
from tokenferry.sandbox._settings import AccountSettings


@dataclass(eq=False)
class Family:
    """All tokens of one login, which are revoked together."""

    account: str
    client_id: str | None
    scopes: tuple[str, ...]
    revoked: bool = False


@dataclass(eq=False)
class Access:
    token: str = field(repr=False)
    family: Family
    scopes: tuple[str, ...]
    expires_at: float
    revoked: bool = False
    is_exchanged: bool = False

    @property
    def dead(self) -> bool:
        return self.revoked or self.family.revoked


@dataclass(eq=False)
class Refresh:
    token: str = field(repr=False)
    family: Family
    expires_at: float
    used_at: float | None = None
    revoked: bool = False


@dataclass(eq=False)
class Code:
    code: str = field(repr=False)
    account: str
    client_id: str
    redirect_uri: str
    challenge: str
    state: str | None = field(repr=False)
    scopes: tuple[str, ...]
    expires_at: float
    used: bool = False
    family: Family | None = None


@dataclass(eq=False)
class Device:
    device_code: str = field(repr=False)
    user_code: str
    client_id: str | None
    scopes: tuple[str, ...]
    expires_at: float
    interval: float
    last_poll: float | None = None
    account: str | None = None
    denied: bool = False
    used: bool = False
    challenge: str = ""
    """PKCE's challenge, if its login has one."""


class Ledger:
    """Every credential the sandbox has given out, live or dead."""

    def __init__(self, mint: Mint, now: float | None = None) -> None:
        self._mint = mint
        self.access: dict[str, Access] = {}
        self.refresh: dict[str, Refresh] = {}
        self.codes: dict[str, Code] = {}
        self.devices: dict[str, Device] = {}
        self.long_lived: dict[str, Family] = {}
        """Tokens that must be exchanged before an API accepts them."""
        self.keys: dict[str, str] = {}
        self.dead_keys: set[str] = set()
        expires_at = (time.time() if now is None else now) + SETUP_LIFETIME
        for account in ACCOUNTS.values():
            self.keys[account.api_key] = account.name
            if account.can_login:
                family = Family(account.name, None, (SETUP_SCOPE,))
                self.access[account.setup_token] = Access(account.setup_token, family, (SETUP_SCOPE,), expires_at)

    def new_access(self, family: Family, expires_at: float, scopes: tuple[str, ...] | None = None) -> Access:
        access = Access(
            self._mint.token(ACCESS_PREFIX),
            family,
            family.scopes if scopes is None else scopes,
            expires_at,
        )
        self.access[access.token] = access
        return access

    def new_refresh(self, family: Family, expires_at: float) -> Refresh:
        refresh = Refresh(self._mint.token(REFRESH_PREFIX), family, expires_at)
        self.refresh[refresh.token] = refresh
        return refresh

    def pair(
        self, family: Family, settings: AccountSettings, now: float, scopes: tuple[str, ...] | None = None
    ) -> tuple[Access, Refresh]:
        access = self.new_access(family, now + settings.token_lifetime, scopes)
        return access, self.new_refresh(family, now + settings.refresh_lifetime)

    def new_long_lived(self, family: Family) -> str:
        secret = self._mint.token(LONG_LIVED_PREFIX)
        self.long_lived[secret] = family
        return secret

    def new_key(self, account: str) -> str:
        key = self._mint.token(KEY_PREFIX)
        self.keys[key] = account
        return key

    def new_code(
        self,
        account: str,
        *,
        client_id: str,
        redirect_uri: str,
        challenge: str,
        state: str | None,
        scopes: tuple[str, ...],
        expires_at: float,
    ) -> Code:
        code = Code(self._mint.text("code", 43), account, client_id, redirect_uri, challenge, state, scopes, expires_at)
        self.codes[code.code] = code
        return code

    def new_device(self, client_id: str | None, scopes: tuple[str, ...], expires_at: float, interval: float) -> Device:
        device = Device(
            self._mint.text("device code", 64), self._mint.user_code(), client_id, scopes, expires_at, interval
        )
        self.devices[device.device_code] = device
        return device

    def owner_of(self, secret: str) -> str | None:
        """The account that a secret of any kind belongs to."""
        held = self.refresh.get(secret) or self.access.get(secret)
        if held is not None:
            return held.family.account
        if secret in self.long_lived:
            return self.long_lived[secret].account
        code = self.codes.get(secret) or self.devices.get(secret)
        return self.keys.get(secret) if code is None else code.account

    def device_by_user_code(self, user_code: str) -> Device | None:
        wanted = "".join(filter(str.isalnum, user_code.upper()))
        return next((d for d in self.devices.values() if d.user_code.replace("-", "") == wanted), None)

    def access_of(self, account: str) -> Iterable[Access]:
        """Access tokens of the account's logins; its setup token is no login."""
        setup = ACCOUNTS[account].setup_token
        return (a for a in self.access.values() if a.family.account == account and a.token != setup)

    def families_of(self, account: str) -> set[Family]:
        return {refresh.family for refresh in self.refresh.values() if refresh.family.account == account}
