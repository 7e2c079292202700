from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tokenferry.limits._classification import Classification
from tokenferry.limits._error import AnswerError, read_error
from tokenferry.limits._headers import WireFormat, read_limits
from tokenferry.limits._inflate import readable
from tokenferry.limits._rules import AFTER_CONTENT, RULES, STATUS_OF_ERROR, Evidence, Rule
from tokenferry.limits._state import LONGEST_WINDOW, LimitState, Window
from tokenferry.limits._values import read_challenge, read_regain

_SERVED: Final = range(200, 300)
_SERVER_ERROR: Final = 500
_NO_ERROR: Final = AnswerError()
_LONGEST_WAIT: Final = 31 * 86_400.0


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    provider_format: WireFormat,
    rules: Sequence[Rule] = (),
) -> Classification:
    """Classify an answer. It never raises, whatever an upstream sends.

    `now` is the time of the answer in seconds since 1970 UTC. At most 64 KiB of a compressed body are inflated. For a
    stream, pass the part before its first content: an error in it counts as if it had been the answer.
    The provider's own `rules` come before all others.
    """
    state = read_limits(headers, now=now, provider_format=provider_format)
    content = readable(headers, body)
    error = (None if content is None else read_error(content)) or _NO_ERROR
    evidence = _evidence(state)
    if status in _SERVED and error is not _NO_ERROR:
        if error.is_after_content:
            return _classification(AFTER_CONTENT, error, state, now)
        if not error.is_page:
            known = (stands for code, stands in STATUS_OF_ERROR.items() if code in error.codes)
            status = next(known, error.status or _SERVER_ERROR)
    challenge = read_challenge(headers)
    rule = next((rule for rule in (*rules, *RULES) if rule.fits(status, error, evidence, challenge)), RULES[-1])
    return _classification(rule, error, state, now)


def _evidence(state: LimitState) -> Evidence:
    if state.status.startswith("allowed"):
        return "allowed"
    rejected = state.rejected
    if rejected:
        return "family-window" if all(window.is_of_family for window in rejected) else "window"
    if state.status == "rejected":
        return "rejected"
    if not state.status and any(window.status for window in state.windows):
        return "allowed"
    return "counted" if state.buckets or state.retry_after is not None else "nothing"


def _classification(rule: Rule, error: AnswerError, state: LimitState, now: float) -> Classification:
    # A window of one family may end days after the one that refuses all models.
    windows = [window for window in state.rejected if window.is_of_family == (rule.models == "family")]
    hold, until = rule.hold, None
    if hold == "window":
        until = _last_reset(windows, now)
        hold = "retry-after" if until is None else hold
    if hold == "retry-after":
        until = _stated_end(state, error, now)
    elif hold == "date":
        until = _within(read_regain(error.message), now)
    if hold in {"retry-after", "date"} and until is None:
        hold = rule.otherwise
    reason = rule.reason.format(windows=" and ".join(f"window {window.name}" for window in windows))
    return Classification(rule.scope, rule.models, rule.cause, rule.action, hold, until, reason)


def _last_reset(windows: Iterable[Window], now: float) -> float | None:
    resets = [min(window.reset, now + window.length) for window in windows if window.reset is not None]
    return max(resets, default=None)


def _within(until: float | None, now: float) -> float | None:
    """Give a stated end if it is in the future, but at most a month away."""
    return until if until is not None and now < until <= now + _LONGEST_WAIT else None


def _stated_end(state: LimitState, error: AnswerError, now: float) -> float | None:
    """Give the end of a wait. A bucket's reset does not count: it is usable long before it is full.

    The exception is an empty bucket of a day, which stays empty for longer than any back-off.
    """
    if state.retry_after is not None:
        return now + state.retry_after
    if state.status == "rejected" and state.reset is not None:
        return min(state.reset, now + LONGEST_WINDOW)
    if error.resets_in is not None:
        return _within(now + error.resets_in, now)
    days = [one.reset for one in state.buckets if one.is_of_day and one.remaining == 0 and one.reset is not None]
    return _within(max(days, default=None) if error.resets_at is None else error.resets_at, now)
