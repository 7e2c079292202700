"""Times, spans, money and counts as people read them."""

from datetime import UTC, datetime


def moment(seconds: int | None) -> str:
    """A time for people: RFC 3339 in UTC, a dash for None."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """A length of time for people, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def relative(seconds: int, now: float) -> str:
    """A time for people, from `now`: `in 3 h`, `2 d ago`."""
    left = seconds - now
    return f"in {span(left)}" if left >= 0 else f"{span(-left)} ago"


def dollars(micros: int) -> str:
    """Money for people."""
    return f"${micros / 1e6:,.2f}"


def spreadsheet_cell(value: object) -> object:
    """The value, in a form that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def requests(count: int) -> str:
    """A number of requests for people."""
    return f"{count:,} request{'' if count == 1 else 's'}"


def short(count: int) -> str:
    """A number of tokens in at most six characters."""
    size = float(count)
    for unit in ("", "k", "M", "G", "T"):
        if size < 999.95 or unit == "T":  # noqa: PLR2004  # a value that rounds to 1000 is 1.0 of the next unit
            return f"{size:.1f}{unit}" if unit else str(count)
        size /= 1000
    raise AssertionError
