import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tokenferry.sandbox import _settings
from tokenferry.sandbox._accounts import ACCOUNTS, DEFAULT_SCOPES, Account, find
from tokenferry.sandbox._clock import Clock
from tokenferry.sandbox._counters import Counters
from tokenferry.sandbox._faults import Faults
from tokenferry.sandbox._http import Request
from tokenferry.sandbox._identity import identity_token
from tokenferry.sandbox._ledger import Family, Ledger
from tokenferry.sandbox._mint import Mint
from tokenferry.sandbox._settings import AccountSettings, ControlError

DEVICE_INTERVAL = 5  # seconds, RFC 8628, 3.2
DEVICE_LIFETIME = 600
_KINDS = ("oauth", "api-key", "setup-token", "identity-token", "long-lived")


class State:
    """The sandbox's whole state, and the operations on it.

    Hold `lock` to read or change it from any thread; the methods here take it themselves.
    """

    def __init__(self, seed: int | str | None = None) -> None:
        self.lock = threading.RLock()
        self.counted = threading.Condition(self.lock)
        self.clock = Clock()
        self.issuer = ""
        self.faults = Faults()
        self._seed = seed
        self._begin()

    def _begin(self) -> None:
        self.mint = Mint(self._seed)
        self.ledger = Ledger(self.mint, self.clock.now())
        self.counters = Counters()
        self.settings = {name: AccountSettings() for name in ACCOUNTS}
        self.device_interval: float = DEVICE_INTERVAL
        self.device_lifetime: float = DEVICE_LIFETIME

    def reset(self) -> None:
        """Return to the first state; requests that wait for a fault are answered."""
        with self.lock:
            self.clock.reset()
            self._begin()
        self.clear()

    def account(self, name: object) -> Account:
        account = find(name) if isinstance(name, str) else None
        if account is None:
            raise ControlError(f"There is no account {name!r}; there are {', '.join(ACCOUNTS)}.")
        return account

    def issue(self, account: object, kind: object = "oauth", expires_in: object = None) -> dict[str, Any]:
        """Issue a credential without a login: an OAuth bundle, a key or a token, by `kind`."""
        with self.lock:
            owner = self.account(account)
            if kind == "api-key":
                return {"key": owner.api_key}
            if kind not in _KINDS:
                raise ControlError(f"There is no kind {kind!r}; there are {', '.join(_KINDS)}.")
            if not owner.can_login:
                raise ControlError(f"The account {owner.name!r} has an API key only: ask for kind api-key.")
            if kind == "setup-token":
                return {"key": owner.setup_token}
            if kind == "long-lived":
                return {"key": self.ledger.new_long_lived(Family(owner.name, None, DEFAULT_SCOPES))}
            settings = self.settings[owner.name]
            if expires_in is None:
                expires_in = settings.token_lifetime
            if type(expires_in) is not int:
                raise ControlError(f"expires_in is a number of seconds, not {expires_in!r}.")
            now = self.clock.now()
            if kind == "identity-token":
                return {"key": identity_token(owner.name, now + expires_in)}
            family = Family(owner.name, None, DEFAULT_SCOPES)
            access = self.ledger.new_access(family, now + expires_in)
            refresh = self.ledger.new_refresh(family, now + settings.refresh_lifetime)
            return {
                "access_token": access.token,
                "refresh_token": refresh.token,
                "expires_at": int(access.expires_at),
                "account_email": owner.email,
                "scopes": list(family.scopes),
            }

    def fault(self, parameters: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if parameters.get("account") is not None:
                parameters = parameters | {"account": self.account(parameters["account"]).name}
            return self.faults.add(parameters)

    def clear(self) -> None:
        """Remove every fault; requests that wait for one are answered."""
        with self.lock:
            self.faults.clear()
        self.clock.wake()

    def set_clock(self, parameters: dict[str, Any]) -> dict[str, Any]:
        move = {name: value for name, value in parameters.items() if name in {"advance", "set"}}
        if len(parameters) != 1 or not move or not all(type(value) in {int, float} for value in move.values()):
            raise ControlError('Say {"advance": seconds} or {"set": unix seconds}.')
        if "advance" in move:
            self.clock.advance(move["advance"])
        else:
            self.clock.set(move["set"])
        return {"now": self.clock.now()}

    def change_settings(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Change the settings of one account, or of all."""
        changes = dict(parameters)
        with self.lock:
            name = changes.pop("account", None)
            names = list(ACCOUNTS) if name is None else [self.account(name).name]
            device = {key: changes.pop(key) for key in ("device_interval", "device_lifetime") if key in changes}
            _settings.check(changes)
            for key, value in device.items():
                if type(value) not in {int, float}:
                    raise ControlError(f"The setting {key!r} is a number of seconds, not {value!r}.")
                setattr(self, key, value)
            for each in names:
                self.settings[each].change(changes, self.clock.now())
            return {each: self._shown(each) for each in names}

    def _shown(self, name: str) -> dict[str, Any]:
        shown = asdict(self.settings[name])
        shown["limits"] = {w: asdict(window) for w, window in shown["limits"].windows(self.clock.now()).items()}
        return shown

    def revoke(self, account: object, what: object = "access") -> dict[str, Any]:
        with self.lock:
            owner = self.account(account)
            if what == "access":
                for access in self.ledger.access_of(owner.name):
                    access.revoked = True
            elif what == "family":
                for family in self.ledger.families_of(owner.name):
                    self.revoke_family(family)
            elif what == "api-key":
                self.ledger.dead_keys.update(key for key, name in self.ledger.keys.items() if name == owner.name)
            elif what == "setup-token" and owner.can_login:
                self.ledger.access[owner.setup_token].revoked = True
            else:
                raise ControlError(
                    f"Can't revoke {what!r} of {owner.name}; say access, family, api-key or setup-token."
                )
            return {"account": owner.name, "revoked": what}

    def revoke_family(self, family: Family) -> None:
        if not family.revoked:
            family.revoked = True
            self.counters.count(family.account, "families_revoked")

    def counts(self) -> dict[str, Any]:
        with self.lock:
            return self.counters.snapshot()

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], timeout: float) -> dict[str, Any]:
        with self.counted:
            if not self.counted.wait_for(lambda: condition(self.counters.snapshot()), timeout):
                raise TimeoutError(f"The sandbox saw nothing of the kind within {timeout:g} s.")
            return self.counters.snapshot()

    def requests(self, last: int = 100) -> list[dict[str, Any]]:
        with self.lock:
            return self.counters.requests(last)

    def owner_of(self, request: Request) -> str | None:
        """The account of a request, by its credential or by the tokens in its body."""
        secrets = request.presented
        if request.method == "POST" and request.is_oauth:
            given = request.json if isinstance(request.json, dict) else dict(request.form)
            secrets += [str(given.get(name, "")) for name in ("refresh_token", "code", "device_code", "token")]
        return next(filter(None, map(self.ledger.owner_of, secrets)), None)
