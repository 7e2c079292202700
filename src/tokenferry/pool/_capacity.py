from tokenferry.settings import AccountCaps, PoolSettings


class Capacity:
    """How many requests each account has, and how fast they come, against its caps. Times are of a steady clock."""

    def __init__(self, settings: PoolSettings) -> None:
        self.busy: dict[str, int] = {}
        """Requests under way, by account."""
        self._next: dict[str, float] = {}
        self.configure(settings)

    def configure(self, settings: PoolSettings) -> None:
        self._default = settings.caps
        self._caps = settings.accounts
        every = (self._default, *self._caps.values())
        self.is_capped = any(caps.requests_per_minute or caps.max_concurrency for caps in every)
        """Whether any account has a cap at all."""

    def caps(self, account: str) -> AccountCaps:
        return self._caps.get(account, self._default)

    def has_slot(self, account: str) -> bool:
        """Whether its cap on requests at a time leaves a slot."""
        most = self.caps(account).max_concurrency
        return not most or self.busy.get(account, 0) < most

    def slot_delay(self, account: str, at: float) -> float:
        """Seconds until its cap on requests per minute lets the next one through."""
        return max(self._next.get(account, 0.0) - at, 0.0) if self.caps(account).rate else 0.0

    def reason(self, account: str, at: float) -> str:
        """Why it gets no request now; empty if it may."""
        caps = self.caps(account)
        if not self.has_slot(account):
            return f"it has {caps.max_concurrency} requests at a time, as many as [pool] lets it have"
        if self.slot_delay(account, at):
            return f"it has {caps.requests_per_minute:g} requests per minute, as many as [pool] lets it have"
        return ""

    def acquire(self, account: str, at: float) -> float:
        """Begin a request; give the seconds that it has to wait for its turn."""
        self.busy[account] = self.busy.get(account, 0) + 1
        return self.reserve_rate(account, at) if self.is_capped else 0.0

    def return_turn(self, account: str) -> None:
        """A turn that was reserved is not used: the next one comes that much sooner."""
        if (rate := self.caps(account).rate) and account in self._next:
            self._next[account] -= 1.0 / rate

    def reserve_rate(self, account: str, at: float) -> float:
        """Send a request once more; give the seconds that it has to wait for its turn."""
        if not (rate := self.caps(account).rate):
            return 0.0
        turn = max(self._next.get(account, 0.0), at)
        self._next[account] = turn + 1.0 / rate
        return turn - at

    def release(self, account: str) -> None:
        left = self.busy.get(account, 0) - 1
        if left > 0:
            self.busy[account] = left
        else:
            self.busy.pop(account, None)
