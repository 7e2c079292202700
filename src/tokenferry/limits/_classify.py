from collections.abc import Iterable, Mapping
from typing import Final

from tokenferry.limits._error import AnswerError, read_error
from tokenferry.limits._headers import WireFormat, read_limits
from tokenferry.limits._rules import AFTER_CONTENT, RULES, STATUS_OF_ERROR, Rule, Told
from tokenferry.limits._state import LONGEST_WINDOW, LimitState, Window
from tokenferry.limits._verdict import Verdict

_SERVED: Final = range(200, 300)
_NO_ERROR: Final = AnswerError()


def classify(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, provider_format: WireFormat
) -> Verdict:
    """Say what an answer means. It never raises, whatever an upstream sends.

    `now` is when it came, in seconds since 1970 UTC. A compressed body is not read. Of a stream the part before its
    first content is enough: an error in it counts as if it had come in place of the stream.
    """
    state = read_limits(headers, now=now, provider_format=provider_format)
    error = (None if _is_compressed(headers) else read_error(body)) or _NO_ERROR
    told = _told(state)
    if status in _SERVED and error is not _NO_ERROR:
        if error.is_after_content:
            return _verdict(AFTER_CONTENT, state, now)
        if not error.is_page:
            status = next((stands for code, stands in STATUS_OF_ERROR.items() if code in error.codes), 500)
    rule = next((rule for rule in RULES if rule.fits(status, error, told)), RULES[-1])
    return _verdict(rule, state, now)


def _told(state: LimitState) -> Told:
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


def _verdict(rule: Rule, state: LimitState, now: float) -> Verdict:
    # A window of one family may end days after the one that refuses all models.
    windows = [window for window in state.rejected if window.is_of_family == (rule.models == "family")]
    hold, until = rule.hold, None
    if hold == "window":
        until = _last_reset(windows, now)
        hold = "retry-after" if until is None else hold
    if hold == "retry-after":
        until = _told_end(state, now)
        hold = "back-off" if until is None else hold
    reason = rule.reason.format(windows=" and ".join(f"window {window.name}" for window in windows))
    return Verdict(rule.scope, rule.models, rule.cause, rule.action, hold, until, reason)


def _last_reset(windows: Iterable[Window], now: float) -> float | None:
    resets = [min(window.reset, now + window.length) for window in windows if window.reset is not None]
    return max(resets, default=None)


def _told_end(state: LimitState, now: float) -> float | None:
    """When a wait ends. A bucket's reset is none: that is when it is full, not when it can be used."""
    if state.retry_after is not None:
        return now + state.retry_after
    if state.status == "rejected" and state.reset is not None:
        return min(state.reset, now + LONGEST_WINDOW)
    return None


def _is_compressed(headers: Mapping[str, str]) -> bool:
    encodings = [value for name, value in headers.items() if name.lower() == "content-encoding"]
    return any(encoding.strip().lower() not in {"", "identity"} for encoding in encodings)
