import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from tokenferry.cli._output import moment, say_json, say_lines
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.errors import UnknownName
from tokenferry.settings import Home
from tokenferry.state import KEPT_DECISIONS, Decision, State

app = new_app()

# Gateways write decisions down in batches, twice a second.
_PATIENCE: Final = 1.5
_POLL: Final = 0.1


@app.command(
    "why",
    epilog=examples(
        "tokenferry why tf_0f3a5c7e9b1d2f4a6c8e0b1d",
        "tokenferry why tf_0f3a5c7e9b1d2f4a6c8e0b1d --json",
    ),
)
def why(
    request_id: Annotated[
        str,
        typer.Argument(metavar="REQUEST_ID", help="From x-tokenferry-request-id or the log.", show_default=False),
    ],
    *,
    as_json: JSON = False,
) -> None:
    """Tell how the gateway dealt with a request: which account was chosen, which were passed over, and why."""
    with State(Home.from_environment().state) as state:
        decision = _wait(state, request_id)
    if decision is None:
        raise UnknownName(
            f"nothing is kept of a request {request_id[:80]!r}: it got to no account, isn't among the last "
            f"{KEPT_DECISIONS:,} that did, or went well among very many; look for it in the gateway's log"
        )
    if as_json:
        say_json({"request_id": decision.request_id, "at": decision.at, **decision.content})
    else:
        say_lines(f"{heading:<10}{text}" for heading, text in _lines(decision))


def _wait(state: State, request_id: str) -> Decision | None:
    end = time.monotonic() + _PATIENCE
    while (decision := state.decisions.get(request_id)) is None and time.monotonic() < end:
        time.sleep(_POLL)
    return decision


def _lines(decision: Decision) -> Iterator[tuple[str, str]]:
    content: dict[str, Any] = dict(decision.content)
    model = f", model {content['model']}" if content.get("model") else ""
    yield "request", f"{decision.request_id} at {moment(decision.at)}"
    yield "client", f"key {content['client']}: {content['method']} {content['path']}{model}"
    if content.get("provider"):
        yield "provider", f"{content['provider']}: {content.get('rule', '')}"
    passed_over = {one["account"]: one["why"] for one in content.get("passed_over", ())}
    for name in content.get("candidates", ()):
        yield "account", f"{name} {_standing(name, content.get('account'), passed_over)}"
    for attempt in content.get("attempts", ()):
        answer = "no answer" if attempt["status"] is None else f"answered {attempt['status']}"
        yield "attempt", f"{attempt['account']} with {attempt['fingerprint']}: {answer}"
    error = f", {content['error']}" if content.get("error") else ""
    yield "result", f"{content['status']} after {content['ms']} ms{error}"
    if content.get("message"):
        yield "message", content["message"]


def _standing(name: str, chosen: str | None, passed_over: dict[str, str]) -> str:
    if name == chosen:
        return "was chosen: the first, in their order, that has a credential"
    if name in passed_over:
        return f"was passed over: {passed_over[name]}"
    return "was not needed"
