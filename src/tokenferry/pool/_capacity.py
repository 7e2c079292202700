from tokenferry.pool._account import PoolAccount
from tokenferry.rates import EVERYTHING, RateLimiter, Share
from tokenferry.settings import NO_CAPS, Caps, PoolSettings


class Capacity:
    """What each account and provider is asked now, against its caps. Times are of a steady clock."""

    def __init__(self, settings: PoolSettings) -> None:
        self._limiters: dict[tuple[str, str], tuple[RateLimiter, ...]] = {}
        self._accounts: dict[str, RateLimiter] = {}
        self._providers: dict[str, RateLimiter] = {}
        self.share = EVERYTHING
        self.held: dict[str, PoolAccount] = {}
        """Accounts whose rates delay a request that waits for them, so that no later one may pass it."""
        self.configure(settings, 0.0)

    def configure(self, settings: PoolSettings, at: float, share: Share | None = None) -> None:
        """Go by other caps, or another worker's share of them."""
        self._settings = settings
        self.share = share or self.share
        every = (settings.caps, *settings.accounts.values(), *settings.providers.values())
        self.is_capped = any(caps.is_limited for caps in every)
        """Whether any account or provider has a cap at all."""
        self.counts_tokens = any(caps.tokens_per_minute for caps in every)
        self._limiters.clear()  # a provider may have a cap now
        for name, limiter in self._accounts.items():
            limiter.where = self._stated(name)
            limiter.configure(self.caps(name), self.share, at)
        for name, limiter in self._providers.items():
            limiter.configure(settings.providers.get(name, NO_CAPS), self.share, at)

    def caps(self, account: str) -> Caps:
        return self._settings.accounts.get(account, self._settings.caps)

    @property
    def busy(self) -> dict[str, int]:
        """Requests under way, by account."""
        return {name: one.busy for name, one in self._accounts.items() if one.busy}

    def limiters(self, account: PoolAccount) -> tuple[RateLimiter, ...]:
        """Those that a request to the account must conform to."""
        key = (account.name, account.provider)
        found = self._limiters.get(key)
        if found is None:
            found = self._limiters[key] = self._find(account)
        return found

    def has_slot(self, account: PoolAccount) -> bool:
        """Whether the caps on requests at a time leave one."""
        return not self.is_capped or all(one.has_slot for one in self.limiters(account))

    def delay(self, account: PoolAccount, at: float, tokens: int, ahead: tuple[float, float] = (0.0, 0.0)) -> float:
        """Seconds until the rates let a request of so many tokens through, behind so many requests and tokens."""
        return max(one.delay(at, tokens, ahead) for one in self.limiters(account))

    def is_free(self, account: PoolAccount, at: float, tokens: int) -> bool:
        """Whether a request may have it now, with no earlier one waiting for it."""
        if not self.is_capped:
            return True
        return account.name not in self.held and self.has_slot(account) and not self.delay(account, at, tokens)

    def reason(self, account: PoolAccount, at: float, tokens: int = 0) -> str:
        """Why it gets no request now; empty if it may."""
        for one in self.limiters(account) if self.is_capped else ():
            if reason := one.reason(at, tokens):
                return f"it has {reason}, as many as {one.where} lets it have"
        return ""

    def sentences(self, account: PoolAccount) -> list[str]:
        """What it may be asked, by all workers together, and where that is stated."""
        return [f"{one.caps}, by {one.where}" for one in self.limiters(account) if one.is_limited]

    def _find(self, account: PoolAccount) -> tuple[RateLimiter, ...]:
        name, provider = account.name, account.provider
        if name not in self._accounts:
            self._accounts[name] = RateLimiter(self._stated(name), self.caps(name), self.share)
        if provider not in self._settings.providers:
            return (self._accounts[name],)
        if provider not in self._providers:
            caps = self._settings.providers[provider]
            self._providers[provider] = RateLimiter(f"[[providers]] {provider}", caps, self.share)
        return (self._accounts[name], self._providers[provider])

    def _stated(self, account: str) -> str:
        return f"[accounts.{account}]" if account in self._settings.accounts else "[pool]"
