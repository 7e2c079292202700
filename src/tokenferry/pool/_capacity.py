from tokenferry.pool._account import PoolAccount
from tokenferry.rates import EVERYTHING, RateLimiter, Share
from tokenferry.settings import NO_CAPS, Caps, PoolSettings


class Capacity:
    """The load of each account and provider, against its caps. `at` is in seconds of a monotonic clock."""

    def __init__(self, settings: PoolSettings) -> None:
        self._limiters: dict[tuple[str, str], tuple[RateLimiter, ...]] = {}
        self._accounts: dict[str, RateLimiter] = {}
        self._providers: dict[str, RateLimiter] = {}
        self.share = EVERYTHING
        self.held: dict[str, PoolAccount] = {}
        """Accounts whose rates delay a waiting request. No later request may overtake it."""
        self.configure(settings, 0.0)

    def configure(self, settings: PoolSettings, at: float, share: Share | None = None) -> None:
        """Apply new caps, or a new share of them for this worker."""
        self._settings = settings
        self.share = share or self.share
        every = (settings.caps, *settings.accounts.values(), *settings.providers.values())
        self.is_capped = any(caps.is_limited for caps in every)
        """Whether any account or provider has a cap."""
        self.counts_tokens = any(caps.tokens_per_minute for caps in every)
        self._limiters.clear()  # a provider may have got a cap
        for name, limiter in self._accounts.items():
            limiter.where = self._where(name)
            limiter.configure(self.caps(name), self.share, at)
        for name, limiter in self._providers.items():
            limiter.configure(settings.providers.get(name, NO_CAPS), self.share, at)

    def caps(self, account: str) -> Caps:
        return self._settings.accounts.get(account, self._settings.caps)

    @property
    def busy(self) -> dict[str, int]:
        """The number of requests in progress, by account."""
        return {name: one.busy for name, one in self._accounts.items() if one.busy}

    def limiters(self, account: PoolAccount) -> tuple[RateLimiter, ...]:
        """Give the limiters that apply to a request to the account."""
        key = (account.name, account.provider)
        found = self._limiters.get(key)
        if found is None:
            found = self._limiters[key] = self._find(account)
        return found

    def has_slot(self, account: PoolAccount) -> bool:
        """Whether the caps on concurrent requests leave a slot."""
        return not self.is_capped or all(one.has_slot for one in self.limiters(account))

    def delay(self, account: PoolAccount, at: float, tokens: int, ahead: tuple[float, float] = (0.0, 0.0)) -> float:
        """Give the seconds until the rates admit a request of `tokens`, after the requests and tokens `ahead` of it."""
        return max(one.delay(at, tokens, ahead) for one in self.limiters(account))

    def is_free(self, account: PoolAccount, at: float, tokens: int) -> bool:
        """Whether the account may serve a request now, and no earlier one waits for it."""
        if not self.is_capped:
            return True
        return account.name not in self.held and self.has_slot(account) and not self.delay(account, at, tokens)

    def reason(self, account: PoolAccount, at: float, tokens: int = 0) -> str:
        """Say why the account may not serve a request now; empty if it may."""
        for one in self.limiters(account) if self.is_capped else ():
            if reason := one.reason(at, tokens):
                return f"it has {reason}, the most that {one.where} allows"
        return ""

    def sentences(self, account: PoolAccount) -> list[str]:
        """Give each cap of the account, for all workers together, and where it is set."""
        return [f"{one.caps}, by {one.where}" for one in self.limiters(account) if one.is_limited]

    def _find(self, account: PoolAccount) -> tuple[RateLimiter, ...]:
        name, provider = account.name, account.provider
        if name not in self._accounts:
            self._accounts[name] = RateLimiter(self._where(name), self.caps(name), self.share)
        if provider not in self._settings.providers:
            return (self._accounts[name],)
        if provider not in self._providers:
            caps = self._settings.providers[provider]
            self._providers[provider] = RateLimiter(f"[[providers]] {provider}", caps, self.share)
        return (self._accounts[name], self._providers[provider])

    def _where(self, account: str) -> str:
        return f"[accounts.{account}]" if account in self._settings.accounts else "[pool]"
