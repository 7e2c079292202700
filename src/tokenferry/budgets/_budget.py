"""A budget: its subject, limit and period, and what happens when it is used up."""

import re
from collections.abc import Mapping
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Final, Literal, NamedTuple, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.budgets._calendar import PeriodName, Span, span_of
from tokenferry.settings import BudgetSettings
from tokenferry.units import dollars

Unit: TypeAlias = Literal["usd", "tokens"]

GROUP_LABEL: Final = "group"
"""The label of a client key that names its group."""
_MICROS: Final = 1_000_000
_CENT: Final = 10_000
_LIMIT: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([kMG]?) ?(usd|tokens) ?/ ?(day|week|month|total)")
_SCALES: Final = {"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000}
_MOST: Final = 10**15
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PERIODS: Final[Mapping[PeriodName, str]] = {
    "day": "a day",
    "week": "a week",
    "month": "a month",
    "total": "in total",
}


class Spending(NamedTuple):
    """What a request cost, in each unit that a budget can count. Money is in micro-dollars.

    Tokens are input, cache writes and output, as vendors count them for their limits, without cache reads.
    """

    billed: int = 0
    listed: int = 0
    tokens: int = 0

    def __add__(self, other: object) -> "Spending":
        if not isinstance(other, Spending):
            return NotImplemented
        return Spending(self.billed + other.billed, self.listed + other.listed, self.tokens + other.tokens)


class SpendingLimit(NamedTuple):
    """An amount of micro-dollars or tokens in a period."""

    amount: int
    unit: Unit
    period: PeriodName

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `20usd/day`, `1.5Mtokens/week`, `500usd/total`. Raises `ValueError` with the expected form."""
        found = _LIMIT.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                "must be an amount of usd or tokens, a slash, and day, week, month or total, such as 200usd/month"
            )
        number, scale, unit, period = found.groups()
        exact = Decimal(number) * _SCALES[scale] * (_MICROS if unit == "usd" else 1)
        if exact > _MOST or exact != int(exact):
            raise ValueError("must be a whole number of tokens" if unit == "tokens" else "is more than can be counted")
        return cls(int(exact), unit, period)  # type: ignore[arg-type]  # the pattern says so

    def __str__(self) -> str:
        """As `parse` reads it."""
        if self.unit == "tokens":
            return f"{self.amount}tokens/{self.period}"
        return f"{Decimal(self.amount).scaleb(-6).normalize():f}usd/{self.period}"

    def amount_text(self, amount: int) -> str:
        """An amount of this unit, for people."""
        if self.unit == "tokens":
            return f"{amount:,} tokens"
        return f"${amount / _MICROS:.6f}".rstrip("0") if 0 < amount < _CENT else dollars(amount)

    @property
    def sentence(self) -> str:
        """`$200.00 a month`."""
        return f"{self.amount_text(self.amount)} {_PERIODS[self.period]}"


class Budget(Struct, frozen=True):
    """One `[[budgets]]`, or one `--budget` of a client key, as it is applied."""

    settings: BudgetSettings
    limit: SpendingLimit
    kind: Literal["key", "group", "all"]
    name: str
    """The key's name or id, or the group's; empty for all."""
    zone: tzinfo
    first_weekday: int

    @classmethod
    def of(cls, settings: BudgetSettings) -> Self:
        """Make the budget of these settings. Raises `ValueError` that begins with the wrong setting's name."""
        kind, _, name = settings.subject.partition(":")
        if settings.subject != "all" and (kind not in {"key", "group"} or not name):
            raise ValueError('subject must be "key:NAME", "group:NAME" or "all"')
        try:
            limit = SpendingLimit.parse(settings.limit)
        except ValueError as fault:
            raise ValueError(f"limit {fault}") from None
        try:
            zone = UTC if settings.timezone.upper() == "UTC" else ZoneInfo(settings.timezone)
        except (OSError, ValueError, ZoneInfoNotFoundError):
            raise ValueError("timezone must be one that this machine knows, such as Europe/Berlin") from None
        weekday = _WEEKDAYS.index(settings.week_start)
        return cls(settings, limit, kind, name, zone, weekday)  # type: ignore[arg-type]  # it was looked at

    @classmethod
    def of_key(cls, key_id: str, limit: str) -> Self:
        """The budget that is stored with a client key. Raises `ValueError`."""
        return cls.of(BudgetSettings(f"key:{key_id}", limit))

    def refusing(self) -> Self:
        """The same, but that nothing more is sent while what is left is unknown."""
        return replace(self, settings=replace(self.settings, on_error="refuse"))

    @property
    def identity(self) -> str:
        """A text that stays the same when its amount, mode or message changes."""
        said = self.settings
        what = f"{self.limit.unit}/{self.limit.period} {said.counts}"
        return f"{said.subject} {said.per} {what} {said.timezone} {said.week_start}"

    @property
    def measure(self) -> int:
        """The field of `Spending` that it counts, by position."""
        return 2 if self.limit.unit == "tokens" else 1 if self.settings.counts == "list" else 0

    def whose(self, key_name: str = "") -> str:
        """The subject as part of a sentence; `key_name` names the one key that the counter counts."""
        if self.kind == "key":
            return f"client key {key_name or self.name}"
        subject = f"group {self.name}" if self.kind == "group" else "all client keys"
        return f"client key {key_name}, one of {subject}" if key_name and self.settings.per == "key" else subject

    def title(self, key_name: str = "") -> str:
        """`the budget of $20.00 a day for client key laptop`."""
        return f"the budget of {self.limit.sentence} for {self.whose(key_name)}"

    def span(self, at: float) -> Span:
        """The period that contains a time, in seconds since 1970 UTC."""
        return span_of(self.limit.period, at, self.zone, self.first_weekday)

    def covers(self, key_id: str, key_name: str, labels: Mapping[str, str]) -> bool:
        """Whether it counts the requests of this client key."""
        if self.kind == "key":
            return self.name == key_id or self.name.casefold() == key_name.casefold()
        return self.kind == "all" or labels.get(GROUP_LABEL) == self.name
