import re
from dataclasses import dataclass, field, fields
from typing import Any

from tokenferry.sandbox._limits import Limits


class ControlError(Exception):
    """An invalid control call; the message says what is valid."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class AnswerSettings:
    """The content of answers: a text instead of the echo, and further blocks."""

    text: str | None = None
    thinking: bool = False
    tool: bool = False
    calls: list[dict[str, Any]] = field(default_factory=list)
    """The calls to make, each a `name` and an `input`, if all these tools are offered and there are no results yet."""
    citations: bool = False


@dataclass
class AccountSettings:
    token_lifetime: int = 28_800
    refresh_lifetime: int = 2_592_000
    rotation: bool = True
    reuse_grace: float = 0
    refresh_revokes_access: bool = False
    exchange: bool = True
    """Whether its long-lived tokens can be exchanged."""
    token_answer: dict[str, Any] = field(default_factory=dict)
    answer: AnswerSettings = field(default_factory=AnswerSettings)
    limits: Limits = field(default_factory=Limits)

    def change(self, changes: dict[str, Any], now: float) -> None:
        for name, value in changes.items():
            if name == "limits":
                self.limits.change(value, now)
            elif name == "answer":
                self.answer = AnswerSettings(**value) if value else AnswerSettings()
            else:
                setattr(self, name, value)


_LIMIT_NAME = re.compile(r"[a-z0-9_-]+")
_LIMIT_NUMBERS = frozenset({"reset_in", "utilization", "limit", "remaining", "surpassed_threshold"})
_KINDS: dict[str, tuple[type, ...]] = {
    "token_lifetime": (int,),
    "refresh_lifetime": (int,),
    "rotation": (bool,),
    "reuse_grace": (int, float),
    "refresh_revokes_access": (bool,),
    "exchange": (bool,),
    "token_answer": (dict,),
    "answer": (dict, type(None)),
    "limits": (dict, type(None)),
}


def check(changes: dict[str, Any]) -> None:
    """Refuse changes that `AccountSettings.change` can't make. Raises `ControlError`."""
    for name, value in changes.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            raise ControlError(f"There is no setting {name!r}; there are {', '.join(sorted(_KINDS))}.")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ControlError(f"The setting {name!r} can't be {value!r}.")
    _check_answer(changes.get("answer") or {})
    for name, state in (changes.get("limits") or {}).items():
        _check_limit(name, state)


def _check_answer(answer: dict[str, Any]) -> None:
    known = {knob.name for knob in fields(AnswerSettings)}
    unknown = set(answer) - known
    if unknown:
        raise ControlError(f"`answer` has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
    for name, value in answer.items():
        if not (_are_calls(value) if name == "calls" else isinstance(value, str | None if name == "text" else bool)):
            raise ControlError(f"`answer.{name}` can't be {value!r}.")


def _are_calls(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and one.keys() <= {"name", "input"}
        and isinstance(one.get("name"), str)
        and isinstance(one.get("input", {}), dict)
        for one in value
    )


def _check_limit(name: str, state: Any) -> None:
    if not _LIMIT_NAME.fullmatch(name) or not isinstance(state, dict | None):
        raise ControlError(f"The limit {name!r} can't be {state!r}; say an object, or null to set it back.")
    for key, value in (state or {}).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number if key in _LIMIT_NUMBERS else number or (isinstance(value, str) and value.isprintable())):
            raise ControlError(f"`limits.{name}.{key}` can't be {value!r}.")
