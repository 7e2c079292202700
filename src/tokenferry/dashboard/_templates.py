"""The template environment: autoescaped, strict about missing variables, with shared filters."""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup, escape

from tokenferry.dashboard._assets import packaged_assets
from tokenferry.readiness import TONES
from tokenferry.units import dollars, short

FOLDER: Final = Path(__file__).parent / "templates"
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_TONES: Final = {
    "fresh": "good",
    "live": "good",
    "refreshing": "good",
    "expired": "calm",
    "revoked": "calm",
    "paused": "calm",
    "used up": "warning",
    "damaged": "bad",
    **TONES,
}
_SHAPES: Final = {"good": "●", "calm": "○", "warning": "▲", "bad": "■"}


@cache
def environment() -> jinja2.Environment:
    """Return the environment, with the templates that were compiled so far."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"asset": packaged_assets().url, "tone": tone}
    made.filters |= {
        "span": span,
        "day": lambda at: f"{datetime.fromtimestamp(at, UTC):%a}",
        "time": moment,
        "clock": clock,
        "percent": percent,
        "state": state,
        "money": dollars,
        "money4": _cents,
        "short": short,
    }
    return made


def span(seconds: float) -> str:
    """Format a duration in its two largest units: 2 h 14 min."""
    left, parts = max(0, round(seconds)), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(at: float | str | None) -> Markup:
    """Format a moment relative to now, with the exact time as title; `at` is seconds since 1970 UTC, or RFC 3339."""
    if at is None or at == "":
        return Markup('<span class="none">-</span>')
    seconds = datetime.fromisoformat(at).timestamp() if isinstance(at, str) else float(at)
    exact = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ahead = seconds - time.time()
    said = f"in {span(ahead)}" if ahead >= 0 else f"{span(-ahead)} ago"
    return Markup('<time datetime="{0}" title="{1} UTC">{2}</time>').format(exact, exact[:-1].replace("T", " "), said)


def clock(at: float) -> Markup:
    """Format the time of day in UTC, with the date on other days; `at` is seconds since 1970. A script localises it."""
    exact = datetime.fromtimestamp(at, UTC)
    day = "" if exact.date() == datetime.now(UTC).date() else f"{exact.day} {exact:%b} "
    return Markup(
        '<time data-clock datetime="{0:%Y-%m-%dT%H:%M:%SZ}" title="{0:%Y-%m-%d %H:%M:%S} UTC">{1}{0:%H:%M} UTC</time>'
    ).format(exact, day)


def _cents(micros: int) -> str:
    """Format the cost of one request, which is often less than a cent."""
    return dollars(micros) if micros >= 10_000 else f"${micros / 1e6:.4f}"  # noqa: PLR2004  # a cent


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def tone(word: str) -> str:
    """Return the tone of a state: good, calm, warning or bad."""
    return _TONES.get(word, "calm")


def state(word: str, until: float | None = None) -> Markup:
    """Format a state's word with colour and shape; `until`, in seconds since 1970 UTC, is its end."""
    look = tone(word)
    end = "" if until is None else Markup(" until {0}").format(clock(until))
    return Markup('<span class="state {0}"><span aria-hidden="true">{1}</span> {2}{3}</span>').format(
        look, _SHAPES[look], escape(word.replace("-", " ")), end
    )
