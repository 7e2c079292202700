import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_PREFIX = "anthropic-ratelimit-"
_LENGTHS = {"5h": 18_000, "7d": 604_800}
_CLAIMS = {"5h": "five_hour", "7d": "seven_day"}
_BUCKETS = {"requests": 4_000, "tokens": 2_400_000, "input-tokens": 2_000_000, "output-tokens": 400_000}
_BUCKET_LENGTH = 60
_WARNING = 0.9


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Window:
    """The state of a window; it ends at `reset` (unix seconds)."""

    status: str
    utilization: float
    reset: float
    models: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def applies(self, model: str) -> bool:
        return self.models is None or self.models in model


@dataclass
class Bucket:
    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True)
class Refusal:
    message: str
    retry_after: int


class Limits:
    """Both families of limit headers of one account, and the refusals that follow from them."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._overage: dict[str, Any] = {}
        self._buckets: dict[str, Bucket] = {}

    def change(self, changes: dict[str, Any] | None, now: float) -> None:
        """Set windows (`5h`, `7d`, `7d_sonnet`…), `overage` and buckets (`requests`…); None resets all."""
        if changes is None:
            self.__init__()  # type: ignore[misc]  # it resets everything
            return
        for name, given in changes.items():
            state = dict(given or {})
            if not state:
                self._windows.pop(name, None)
                self._buckets.pop(name, None)
            elif name == "overage":
                self._overage = state
                if "reset_in" in state:
                    state["reset"] = now + state.pop("reset_in")
            elif name in _BUCKETS:
                limit = int(state.get("limit", _BUCKETS[name]))
                reset = now + float(state.get("reset_in", _BUCKET_LENGTH))
                self._buckets[name] = Bucket(limit, int(state.get("remaining", limit)), reset)
            else:
                self._windows[name] = _window(name, state, now)

    def windows(self, now: float) -> dict[str, Window]:
        """Every window in its present state; a set window is gone after its reset."""
        self._windows = {name: window for name, window in self._windows.items() if window.reset > now}
        defaults = {}
        for name, length in _LENGTHS.items():
            reset = (math.floor(now / length) + 1) * length
            defaults[name] = Window("allowed", 0.02, reset)
        return defaults | self._windows

    def unified_headers(self, now: float, model: str) -> list[tuple[str, str]]:
        windows = self.windows(now)
        rejected = self._rejected(windows, model)
        overage = str(self._overage.get("status", "rejected"))
        paid = bool(rejected) and overage == "allowed"
        representative = max(rejected or ["5h"], key=lambda name: windows[name].reset)
        warned = any(w.status == "allowed_warning" and w.applies(model) for w in windows.values())
        status = "rejected" if rejected and not paid else "allowed_warning" if warned else "allowed"
        head = {"status": status, "reset": int(windows[representative].reset)}
        for name, window in windows.items():
            head[f"{name}-status"] = window.status
            head[f"{name}-reset"] = int(window.reset)
            head[f"{name}-utilization"] = window.utilization
            head |= {f"{name}-{key}": value for key, value in window.extra.items()}
        head["representative-claim"] = "overage" if paid else _CLAIMS.get(representative, representative)
        head["fallback"] = "available"
        head["fallback-percentage"] = 0.5
        head["overage-status"] = overage
        if overage == "rejected":
            head["overage-disabled-reason"] = "out_of_credits"
        head |= {f"overage-{key.replace('_', '-')}": _plain(value) for key, value in self._overage.items()}
        return [(f"{_PREFIX}unified-{name}", str(value)) for name, value in head.items()]

    def bucket_headers(self, now: float) -> list[tuple[str, str]]:
        headers = []
        for name, limit in _BUCKETS.items():
            bucket = self._bucket(name, now) or Bucket(limit, limit - 1, now)
            headers += [
                (f"{_PREFIX}{name}-limit", str(bucket.limit)),
                (f"{_PREFIX}{name}-remaining", str(bucket.remaining)),
                (f"{_PREFIX}{name}-reset", _rfc3339(bucket.reset)),
            ]
        return headers

    def chat_headers(self, now: float) -> list[tuple[str, str]]:
        """The buckets as OpenAI names them: requests and tokens, with the time until they are full."""
        headers = []
        for name in ("requests", "tokens"):
            bucket = self._bucket(name, now) or Bucket(_BUCKETS[name], _BUCKETS[name] - 1, now)
            headers += [
                (f"x-ratelimit-limit-{name}", str(bucket.limit)),
                (f"x-ratelimit-remaining-{name}", str(bucket.remaining)),
                (f"x-ratelimit-reset-{name}", f"{max(0, math.ceil(bucket.reset - now))}s"),
            ]
        return headers

    def refusal(self, now: float, model: str, *, subscription: bool) -> Refusal | None:
        if subscription:
            windows = self.windows(now)
            rejected = self._rejected(windows, model)
            if not rejected or self._overage.get("status") == "allowed":
                return None
            reset = max(windows[name].reset for name in rejected)
            return Refusal(
                "This request would exceed your account's rate limit. Please try again later.", _until(reset, now)
            )
        for name in _BUCKETS:
            bucket = self._bucket(name, now)
            if bucket is not None and bucket.remaining <= 0:
                message = (
                    f"This request would exceed your organization's rate limit of {bucket.limit} {name} per minute."
                )
                return Refusal(message, _until(bucket.reset, now))
        return None

    def _bucket(self, name: str, now: float) -> Bucket | None:
        bucket = self._buckets.get(name)
        return bucket if bucket is not None and bucket.reset > now else None

    @staticmethod
    def _rejected(windows: dict[str, Window], model: str) -> list[str]:
        return [name for name, window in windows.items() if window.status == "rejected" and window.applies(model)]


def _window(name: str, state: dict[str, Any], now: float) -> Window:
    status = str(state.pop("status", "allowed"))
    utilization = float(state.pop("utilization", 1.0 if status == "rejected" else 0.02))
    if status == "allowed" and utilization >= _WARNING:
        status = "allowed_warning"
    length = _LENGTHS.get(name.partition("_")[0], _LENGTHS["7d"])
    reset = now + float(state.pop("reset_in", length))
    family = name.partition("_")[2]
    models = state.pop("models", family if family in {"opus", "sonnet", "haiku"} else None)
    return Window(status, utilization, reset, models, {key.replace("_", "-"): value for key, value in state.items()})


def _until(reset: float, now: float) -> int:
    return max(1, math.ceil(reset - now))


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value > 1 else value
