import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from tokenferry.limits._state import Bucket, LimitState, Window
from tokenferry.limits._values import read_moment, read_number, read_span, read_wait

WireFormat: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini", "vertex", "other"]

_ANTHROPIC: Final = "anthropic-"
_UNIFIED: Final = "anthropic-ratelimit-unified-"
_OPENAI: Final = "x-ratelimit-"
_GROQ: Final = "x-groq-"
_REQUESTS: Final = "requests"
# Matched by pattern: vendors add and rename families.
_WINDOW: Final = re.compile(r"([a-z0-9_-]{1,48})-(status|reset|utilization|surpassed-threshold)")
_BUCKET: Final = re.compile(r"anthropic-(?:ratelimit-)?([a-z0-9_-]{1,48})-(limit|remaining|reset)")
_OPENAI_BUCKET: Final = re.compile(r"(limit|remaining|reset)-([a-z0-9_-]{1,48})")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ORGANIZATION: Final[dict[WireFormat, str]] = {
    "anthropic": "anthropic-organization-id",
    "openai": "openai-organization",
    "openai-responses": "openai-organization",
}
_MOST: Final = 32

Table: TypeAlias = dict[str, dict[str, str]]


def read_limits(headers: Mapping[str, str], *, now: float, provider_format: WireFormat) -> LimitState:
    """Read the limits in an answer's headers. Invalid values count as absent; it never raises.

    `now` is the time of the answer in seconds since 1970 UTC. Header names may be in any case.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    organization = _word(fields.get(_ORGANIZATION.get(provider_format, ""), ""))
    wait = read_wait(fields, now)
    if provider_format == "anthropic":
        return _anthropic(fields, organization, wait)
    if provider_format in {"openai", "openai-responses"}:
        return LimitState(organization, wait, buckets=_openai_buckets(fields, now))
    return LimitState(organization, wait)


def _anthropic(fields: Mapping[str, str], organization: str, wait: float | None) -> LimitState:
    unified: dict[str, str] = {}
    windows: Table = {}
    buckets: Table = {}
    for name, value in fields.items():
        if name.startswith(_UNIFIED):
            rest = name.removeprefix(_UNIFIED)
            unified[rest] = value
            if found := _WINDOW.fullmatch(rest):
                _add(windows, found[1], found[2], value)
        elif name.startswith(_ANTHROPIC) and (found := _BUCKET.fullmatch(name)):
            _add(buckets, found[1], found[2], value)
    known = [_window(name, entry) for name, entry in windows.items()]
    return LimitState(
        organization=organization,
        retry_after=wait,
        status=_word(unified.get("status", "")).lower(),
        reset=read_moment(unified.get("reset", "")),
        representative_claim=_word(unified.get("representative-claim", "")).lower(),
        fallback_percentage=read_number(unified.get("fallback-percentage", "")),
        windows=tuple(window for window in known if not window.name.startswith("overage")),
        overage=next((window for window in known if window.name == "overage"), None),
        overage_disabled_reason=_word(unified.get("overage-disabled-reason", "")),
        buckets=tuple(_bucket(name, entry, read_moment(entry.get("reset", ""))) for name, entry in buckets.items()),
    )


def _openai_buckets(fields: Mapping[str, str], now: float) -> tuple[Bucket, ...]:
    buckets: Table = {}
    for name, value in fields.items():
        if name.startswith(_OPENAI) and (found := _OPENAI_BUCKET.fullmatch(name.removeprefix(_OPENAI))):
            _add(buckets, found[2], found[1], value)
    read = []
    is_groq = any(name.startswith(_GROQ) for name in fields)
    for name, entry in buckets.items():
        span = read_span(entry.get("reset", ""))
        own = f"{name}-day" if is_groq and name == _REQUESTS else name  # console.groq.com/docs/rate-limits
        read.append(_bucket(own, entry, None if span is None else now + span))
    return tuple(read)


def _add(table: Table, name: str, key: str, value: str) -> None:
    """Store a value, for at most 32 names: an upstream must not fill the memory."""
    if name in table or len(table) < _MOST:
        table.setdefault(name, {})[key] = value


def _window(name: str, entry: Mapping[str, str]) -> Window:
    return Window(
        name,
        _word(entry.get("status", "")).lower(),
        read_moment(entry.get("reset", "")),
        read_number(entry.get("utilization", "")),
        read_number(entry.get("surpassed-threshold", "")),
    )


def _bucket(name: str, entry: Mapping[str, str], reset: float | None) -> Bucket:
    return Bucket(name, read_number(entry.get("limit", "")), read_number(entry.get("remaining", "")), reset)


def _word(text: str) -> str:
    """Give the text if it is one plain word; otherwise an empty one."""
    text = text.strip()
    return text if _WORD.fullmatch(text) else ""
