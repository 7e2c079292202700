"""The control endpoint, `/_sandbox/`: for people with curl and for tests in other languages."""

from collections.abc import Callable
from typing import Any

from tokenferry.sandbox._http import Answer, Request, json_answer, text_answer
from tokenferry.sandbox._settings import ControlError
from tokenferry.sandbox._state import State

_INDEX = """\
A fake provider for tests: an OAuth server, a Messages API and Chat Completions. Nothing here is worth stealing.
Accounts: alice (max), bob (pro), carol (console, creates API keys), dave (API key only).

POST   /_sandbox/issue     {"account": "alice", "kind": "oauth|api-key|setup-token|identity-token|long-lived",
                            "expires_in": 28800}
         also GET /_sandbox/issue?account=alice&kind=api-key&plain=1
POST   /_sandbox/faults    {"kind": ..., "account"?, "path"?, "method"?, "times"?: 1, "after"?: 0, ...}
         kinds: status delay hang cut_before lose_answer truncate sse_error slow chat_quirks gemini_quirks
         unreadable redirect huge drip
GET    /_sandbox/faults    DELETE /_sandbox/faults
POST   /_sandbox/settings  {"account"?, "token_lifetime"?, "rotation"?, "reuse_grace"?, "limits"?, "answer"?, ...}
POST   /_sandbox/clock     {"advance": seconds} or {"set": unix seconds}
GET    /_sandbox/clock
POST   /_sandbox/revoke    {"account": "alice", "what": "access|family|api-key|setup-token"}
GET    /_sandbox/counters
GET    /_sandbox/requests?last=20
POST   /_sandbox/reset
"""

_Call = Callable[[State, dict[str, Any]], Answer]


def _issue(state: State, given: dict[str, Any]) -> Answer:
    _only(given, "account", "kind", "expires_in", "plain")
    expires_in = given.get("expires_in")
    if isinstance(expires_in, str) and expires_in.removeprefix("-").isdecimal():
        expires_in = int(expires_in)
    issued = state.issue(given.get("account"), given.get("kind", "oauth"), expires_in)
    if given.get("plain") in {"1", 1}:
        return text_answer(issued.get("key") or issued["access_token"])
    return json_answer(issued)


def _faults(state: State, given: dict[str, Any]) -> Answer:
    _only(given)
    with state.lock:
        return json_answer({"faults": state.faults.list()})


def _clear(state: State, given: dict[str, Any]) -> Answer:
    _only(given)
    state.clear()
    return json_answer({})


def _now(state: State, given: dict[str, Any]) -> Answer:
    _only(given)
    return json_answer({"now": state.clock.now()})


def _counters(state: State, given: dict[str, Any]) -> Answer:
    _only(given)
    return json_answer(state.counts())


def _requests(state: State, given: dict[str, Any]) -> Answer:
    _only(given, "last")
    last = str(given.get("last", 100))
    if not last.isdecimal():
        raise ControlError(f"last is a number of requests, not {last!r}.")
    return json_answer({"requests": state.requests(int(last))})


def _revoke(state: State, given: dict[str, Any]) -> Answer:
    _only(given, "account", "what")
    return json_answer(state.revoke(given.get("account"), given.get("what", "access")))


def _reset(state: State, given: dict[str, Any]) -> Answer:
    _only(given)
    state.reset()
    return json_answer({})


_CALLS: dict[str, dict[str, _Call]] = {
    "": {"GET": lambda _state, _given: text_answer(_INDEX)},
    "issue": {"GET": _issue, "POST": _issue},
    "faults": {
        "GET": _faults,
        "POST": lambda state, given: json_answer(state.fault(given)),
        "DELETE": _clear,
    },
    "settings": {"POST": lambda state, given: json_answer(state.change_settings(given))},
    "clock": {"GET": _now, "POST": lambda state, given: json_answer(state.set_clock(given))},
    "revoke": {"POST": _revoke},
    "counters": {"GET": _counters},
    "requests": {"GET": _requests},
    "reset": {"POST": _reset},
}


def _only(given: dict[str, Any], *known: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ControlError(f"This call takes no {', '.join(unknown)}; it takes {', '.join(known) or 'nothing'}.")


def answer(state: State, request: Request) -> Answer:
    """Carry out a control call."""
    try:
        _guard(request)
        return _call(request)(state, _parameters(request))
    except ControlError as error:
        return json_answer({"error": str(error)}, error.status)


def _guard(request: Request) -> None:
    """Let no web page control the sandbox: no foreign Host, no Origin, nothing cross-site."""
    if not request.host_is_loopback:
        raise ControlError("The Host header must name the loopback address.", 421)
    origin = any(name == "origin" for name, _ in request.headers)
    if origin or request.header("sec-fetch-site") not in {"", "none", "same-origin"}:
        raise ControlError("Web pages may not control the sandbox.", 403)


def _call(request: Request) -> _Call:
    calls = _CALLS.get(request.path.removeprefix("/_sandbox").strip("/"))
    if calls is None:
        raise ControlError("There is no such call; GET /_sandbox/ lists them.", 404)
    call = calls.get(request.method)
    if call is None:
        raise ControlError(f"This call takes {' or '.join(calls)}.", 405)
    return call


def _parameters(request: Request) -> dict[str, Any]:
    given: dict[str, Any] = dict(request.parameters)
    if not request.body:
        return given
    if not isinstance(request.json, dict):
        raise ControlError("The body must be a JSON object.")
    return given | request.json
