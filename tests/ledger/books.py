"""What tests of the ledger share: entries, and their sums made without it."""

from collections import Counter
from typing import Final

from hypothesis import strategies as st

from tokenferry.ledger import LedgerEntry
from tokenferry.prices import PriceTable

NOW: Final = 1_793_500_000.0
HOUR: Final = 3600
DAY: Final = 86_400
PRICES: Final = PriceTable({"anthropic": "https://api.anthropic.com"})


def entry(number: int, **fields: object) -> LedgerEntry:
    given: dict[str, object] = {
        "key_id": "key_1",
        "key_name": "laptop",
        "account": "alice",
        "provider": "anthropic",
        "model": "claude-opus-5",
        "asked": "claude-opus-5",
        "session": "s-1",
        "status": 200,
        "input": 100,
        "output": 10,
        **fields,
    }
    at = given.pop("at", NOW)
    return LedgerEntry(request_id=f"tf_{number}", at=at, **given)  # type: ignore[arg-type]


counts = st.none() | st.integers(0, 10**6)
entries = st.builds(
    lambda **fields: LedgerEntry(**fields),  # noqa: PLW0108  # of a tuple the fields that are left out were drawn, too
    request_id=st.integers(0, 40).map("tf_{}".format),
    at=st.sampled_from([NOW - 3 * DAY, NOW]) | st.floats(NOW - 3 * DAY, NOW),
    key_id=st.sampled_from(["", "key_1", "key_2"]),
    key_name=st.sampled_from(["laptop", "ci"]),
    account=st.sampled_from(["", "alice", "bob"]),
    provider=st.sampled_from(["anthropic", "z.ai"]),
    model=st.sampled_from(["claude-opus-5", "claude-haiku-4-5-20251001", "odd", ""]),
    asked=st.sampled_from(["claude-opus-5", "fast"]),
    session=st.sampled_from(["", "s-1", "s-2"]),
    is_side=st.booleans(),
    status=st.sampled_from([200, 429, 499]),
    error=st.sampled_from(["", "rate_limit_error"]),
    **dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches"), counts),
    speed=st.sampled_from(["", "fast", "standard"]),
    is_estimated=st.booleans(),
    billing=st.sampled_from(["metered", "plan"]),
    duration=st.floats(0, 600),
    bytes_in=st.integers(0, 10**6),
)


def sums_of(written: list[LedgerEntry], span: int) -> Counter[tuple[object, ...]]:
    """By period, key, account, provider and billing: what a replay of the same requests gives."""
    found: Counter[tuple[object, ...]] = Counter()
    for one in written:
        group = (int(one.at * 1000) // (1000 * span), one.key_id, one.account, one.provider, one.billing)
        price = PRICES.price(one.provider, (one.model, one.asked), one.at)
        cost = price.cost(one.counts, ("speed", one.speed)) if any(one.counts) else 0
        told = {
            "requests": not one.is_side,
            "errors": not one.is_side and bool(one.error),
            "estimated": one.is_estimated,
            "input": one.input or 0,
            "output": one.output or 0,
            "cache_read": one.cache_read or 0,
            "write_5m": one.cache_write_5m or 0,
            "write_1h": one.cache_write_1h or 0,
            "searches": one.web_searches or 0,
            "cost_micros": cost,
            "unpriced_micros": 0 if price.is_known else cost,
        }
        for name, value in told.items():
            found[(*group, name)] += int(value)
    return +found
