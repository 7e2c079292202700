import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from msgspec import to_builtins

from tokenferry.cli._output import redacted, say_json
from tokenferry.cli._raw_answer import RawAnswer, read_raw_answer
from tokenferry.cli._table import labelled
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UsageError
from tokenferry.limits import (
    Action,
    AnswerError,
    Bucket,
    Classification,
    CooldownRule,
    LimitState,
    Models,
    Window,
    WireFormat,
    classify,
    read_error,
    read_limits,
    read_moment,
    readable,
)
from tokenferry.units import moment, span

app = new_app()

_LARGEST: Final = 16 * 1024 * 1024
_SHOWN: Final = 300
_ACTIONS: Final[dict[Action, str]] = {
    "return": "give the client the answer unchanged",
    "refresh": "refresh an OAuth login once and try again; else, and for keys at once, go on to the next account",
    "fail-over": "go on to the next account",
    "hop": "try one other account, then the next target; if there is none, give the client the answer",
    "retry": "try once more in place, or go on to the next provider",
    "retry-then-hop": "try once or twice more in place, then one other account, then the next provider",
    "next-provider": "go on to the next provider",
}
_HOLDS: Final[dict[CooldownRule, str]] = {
    "none": "nothing",
    "back-off": "for up to a second, doubled with each further one, up to a minute",
    "later": "nothing; for 5 minutes other accounts come first for this model",
    "long": "for 60 s, doubled with each further one, up to an hour",
    "hour": "for an hour, then it is tried again",
    "indefinite": "until it is cleared, or seen to work",
    "login": "until its next login or key",
}
_MODELS: Final[dict[Models, str]] = {
    "all": "",
    "family": ", for the requested model's family",
    "model": ", for the requested model",
}


@app.command(
    "response",
    epilog=examples(
        "tokenferry explain response answer.http",
        "curl -isS https://api.example.com/v1/messages … | tokenferry explain response -",
        "tokenferry explain response answer.http --now 2026-01-27T12:00:00Z --json",
    ),
)
def response(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="A raw HTTP response, or - for stdin.", show_default=False)
    ],
    *,
    form: Annotated[
        WireFormat | None,
        typer.Option("--format", help="The provider's API; by default recognised by the headers."),
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(
            "--now", metavar="TIME", help="Time of arrival: seconds since 1970 or RFC 3339; by default its date header."
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show what an upstream's response means, what the gateway would do, and until when.

    Pass a status line, headers, a blank line and the body, as sent over the wire or printed by curl -i. Nothing is
    sent, stored or changed.
    """
    came = None if now is None else read_moment(now)
    if now is not None and came is None:
        raise UsageError(f"--now {now[:40]!r} is not a time; give seconds since 1970, or 2026-01-27T12:00:00Z")
    answer = read_raw_answer(_read(file))
    at = next((one for one in (came, answer.sent_at) if one is not None), time.time())
    wire_format = form or _format(answer)
    verdict = classify(answer.status, answer.headers, answer.body, now=at, provider_format=wire_format)
    state = read_limits(answer.headers, now=at, provider_format=wire_format)
    content = readable(answer.headers, answer.body)
    error = (None if content is None else read_error(content)) or AnswerError()
    if as_json:
        say_json(_to_json(answer, error, verdict, state, at))
    else:
        labelled(_lines(answer, error, verdict, state, at), 10)


def _read(file: str) -> bytes:
    try:
        if file != "-":
            with Path(file).open("rb") as opened:
                data = opened.read(_LARGEST + 1)
        elif sys.stdin is None:
            raise UsageError("stdin is closed; pipe the answer in, or name its file")
        else:
            data = sys.stdin.buffer.read(_LARGEST + 1)
    except OSError as fault:
        raise UsageError(f"{file[:200]} can't be read: {fault.strerror}") from None
    if len(data) > _LARGEST:
        raise UsageError(f"the answer is larger than {_LARGEST >> 20} MiB; give its head and the beginning of its body")
    return data


def _format(answer: RawAnswer) -> WireFormat:
    if any(name.startswith(("x-ratelimit-", "openai-")) for name in answer.headers):
        return "openai"
    return "anthropic"


def _lines(
    answer: RawAnswer, error: AnswerError, verdict: Classification, state: LimitState, at: float
) -> Iterator[tuple[str, str]]:
    text = ": ".join(filter(None, (_words(error.type), _words(error.message))))
    yield "answer", f"{answer.status} {text}".rstrip() + f" (at {moment(int(at))})"
    if answer.encoding is not None and readable(answer.headers, answer.body) is None:
        yield "", f"its body is compressed ({answer.encoding[:40]}) and was not read: record it with curl --compressed"
    yield "means", verdict.reason
    yield "scope", f"{verdict.scope}{_MODELS[verdict.models]}; cause {verdict.cause}"
    yield "action", _ACTIONS[verdict.action]
    yield "cooldown", _cooldown_of(verdict, at)
    if state.status:
        claim = f", for {state.representative_claim}" if state.representative_claim else ""
        yield "limits", f"subscription {state.status}{claim}"
    for window in state.windows:
        yield "window", _window(window)
    if state.overage is not None:
        why = f" because of {state.overage_disabled_reason}" if state.overage_disabled_reason else ""
        billed = "; requests are now billed" if state.bills_overage else ""
        yield "overage", f"{_window(state.overage).removeprefix('overage ')}{why}{billed}"
    for bucket in state.buckets:
        yield "bucket", _bucket(bucket)


def _cooldown_of(verdict: Classification, at: float) -> str:
    if verdict.until is None:
        return _HOLDS[verdict.hold]
    end = moment(math.ceil(verdict.until))
    if verdict.until <= at:
        return f"until {end}, which has passed: for 1 to 5 s"
    fuzz = ", and 1 to 30 s more" if verdict.hold == "window" else ""
    return f"until {end}, in {span(verdict.until - at)}{fuzz}"


def _window(window: Window) -> str:
    used = "" if window.utilization is None else f", {window.utilization:.0%} used"
    reset = "" if window.reset is None else f", until {moment(int(window.reset))}"
    return f"{window.name} {window.status or 'of unknown status'}{used}{reset}"


def _bucket(bucket: Bucket) -> str:
    left = "?" if bucket.remaining is None else f"{bucket.remaining:g}"
    limit = "?" if bucket.limit is None else f"{bucket.limit:g}"
    full = "" if bucket.reset is None else f", full at {moment(int(bucket.reset))}"
    return f"{bucket.name}: {left} of {limit} left{full}"


def _words(text: str) -> str:
    text = redacted(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _to_json(
    answer: RawAnswer, error: AnswerError, verdict: Classification, state: LimitState, at: float
) -> dict[str, Any]:
    return {
        "at": int(at),
        "status": answer.status,
        "error": {
            "type": _words(error.type) or None,
            "message": _words(error.message) or None,
            "compressed": answer.encoding,
        },
        **to_builtins(verdict),
        "until": None if verdict.until is None else math.ceil(verdict.until),
        "limits": _whole_seconds(to_builtins(state)),
    }


def _whole_seconds(value: Any) -> Any:
    """The value with its `reset` times as integers."""
    if isinstance(value, dict):
        return {
            key: int(one) if key == "reset" and one is not None else _whole_seconds(one) for key, one in value.items()
        }
    return [_whole_seconds(one) for one in value] if isinstance(value, list | tuple) else value
