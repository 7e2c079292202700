import re
from dataclasses import dataclass, field
from typing import Any

from tokenferry.sandbox._http import Request
from tokenferry.sandbox._settings import ControlError

_NUMBER = (int, float)
_COMMON: dict[str, tuple[type, ...]] = {
    "account": (str, type(None)),
    "path": (str, type(None)),
    "method": (str, type(None)),
    "times": (int, type(None)),
    "after": (int,),
}
_ERROR: dict[str, tuple[type, ...]] = {"type": (str,), "message": (str,)}
_LATE: dict[str, tuple[type, ...]] = {"after_work": (bool,)}
KINDS: dict[str, dict[str, tuple[type, ...]]] = {
    "status": _ERROR
    | _LATE
    | {"status": (int,), "headers": (dict,), "body": (str,), "content_type": (str,), "limit_headers": (bool,)},
    "delay": _LATE | {"seconds": _NUMBER},
    "hang": _LATE,
    "cut_before": {},
    "lose_answer": {"bytes": (int,)},
    "truncate": {"events": (int,), "cut": (bool,)},
    "sse_error": _ERROR | {"deltas": (int,)},
    "slow": {"seconds": _NUMBER, "events": (int,)},
    "chat_quirks": {
        "same_index": (bool,),
        "ids": (bool,),
        "usage": (str,),
        "finish": (str,),
        "comments": (bool,),
        "done": (bool,),
    },
    "gemini_quirks": {"finish": (str,), "block": (str,), "content": (bool,), "end": (bool,)},
    "unreadable": _LATE | {"body": (str,)},
    "redirect": _LATE | {"location": (str,), "status": (int,)},
    "huge": _LATE | {"bytes": (int,)},
    "drip": {"bytes": (int,), "seconds": _NUMBER},
}
_NEEDED = {"redirect": ("location",), "delay": ("seconds",)}
_STATUSES = (200, 599)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PAUSES = frozenset({"delay", "hang"})
STREAMS = frozenset({"truncate", "sse_error", "slow", "chat_quirks"})
_USAGES = ("end", "each", "nowhere")


@dataclass(eq=False)
class Fault:
    """One rule: which requests it applies to, how often, and what it does to them."""

    id: int
    kind: str
    account: str | None = None
    path: str | None = None
    method: str | None = None
    times: int | None = 1
    after: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    struck: int = 0
    cleared: bool = False

    @property
    def spent(self) -> bool:
        return bool(self.times) and self.struck >= (self.times or 0)

    def matches(self, request: Request, account: str | None) -> bool:
        return (
            (self.account is None or self.account == account)
            and (self.path is None or request.path.startswith(self.path))
            and (self.method is None or self.method.upper() == request.method)
            and (self.kind not in STREAMS or request.wants_stream)
            and (self.kind != "chat_quirks" or request.is_chat)
            and (self.kind != "gemini_quirks" or request.gemini is not None)
        )

    def shown(self) -> dict[str, Any]:
        names = ("id", "kind", "account", "path", "method", "times", "after", "struck")
        return {name: getattr(self, name) for name in names} | self.parameters


@dataclass
class Plan:
    """What happens to one request: pauses, then at most one other fault."""

    pauses: list[Fault] = field(default_factory=list)
    fault: Fault | None = None

    def __bool__(self) -> bool:
        return bool(self.pauses) or self.fault is not None


class Faults:
    """The rules in force, in the order of their creation."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._made = 0

    def add(self, given: dict[str, Any]) -> dict[str, Any]:
        kind = given.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ControlError(f"There is no fault {kind!r}; there are {', '.join(KINDS)}.")
        known = _COMMON | KINDS[kind]
        common: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name, value in given.items():
            if name == "kind":
                continue
            if name not in known:
                raise ControlError(f"The fault {kind} takes no {name!r}; it takes {', '.join(known)}.")
            kinds = known[name]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ControlError(f"The fault {kind} can't have {name} = {value!r}.")
            (common if name in _COMMON else own)[name] = value
        _check(kind, own)
        self._made += 1
        fault = Fault(self._made, kind, **common, parameters=own)
        self._rules.append(fault)
        return fault.shown()

    def list(self) -> list[dict[str, Any]]:
        return [fault.shown() for fault in self._rules]

    def clear(self) -> None:
        for fault in self._rules:
            fault.cleared = True
        self._rules = []

    def plan(self, request: Request, account: str | None) -> Plan:
        """Use the rules that apply to this request. Pauses add up; the first other fault ends the search."""
        plan = Plan()
        for fault in self._rules:
            if fault.spent or not fault.matches(request, account):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.struck += 1
            if fault.kind in _PAUSES:
                plan.pauses.append(fault)
                continue
            plan.fault = fault
            break
        return plan


def _check(kind: str, given: dict[str, Any]) -> None:
    for name in _NEEDED.get(kind, ()):
        if name not in given:
            raise ControlError(f"The fault {kind} needs {name}.")
    if not _STATUSES[0] <= given.get("status", _STATUSES[0]) <= _STATUSES[1]:
        raise ControlError(f"A status is from {_STATUSES[0]} to {_STATUSES[1]}, not {given['status']}.")
    for name, value in given.get("headers", {}).items():
        if not _HEADER_NAME.fullmatch(name) or not str(value).isprintable():
            raise ControlError(f"There can't be a header {name!r} with the value {value!r}.")
    if given.get("usage", _USAGES[0]) not in _USAGES:
        raise ControlError(f"The usage of a stream is at its {', '.join(_USAGES)}, not {given['usage']!r}.")
    if not given.get("location", "").isprintable():
        raise ControlError("A location has no control characters.")
