"""The gateway and nginx before the same upstream: what passes is the same, but for the differences named here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from e2e.nginx import running_nginx
from e2e.parties import eventually, running, tokenferry, write_config
from e2e.shapes import ANSWERS, REFUSED, REQUESTS, request
from e2e.wire import Answered, Headers, Upstream, ask, running_upstream
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ACCOUNT_KEY: Final = "sk-ant-api03-of-the-account"

# What concerns one connection alone, or is said by whoever answers.
NOT_COMPARED_UP: Final = {
    "host", "connection", "x-api-key", "content-length", "transfer-encoding", "accept-encoding", "via",
}  # fmt: skip
NOT_COMPARED_DOWN: Final = {
    "connection", "date", "server", "transfer-encoding", "x-content-type-options", "x-tokenferry-request-id",
}  # fmt: skip

NAMED_REQUESTS: Final = {
    "blanks around a value": "the gateway lacks [('x-blanks', '\\t a  b')], adds [('x-blanks', 'a  b')]",
    "odd headers": """the gateway lacks [("x-1!#$%&'*+.^_`|~", '2'), ('x_under_score', '1')]""",
    "a cookie": "the gateway lacks [('cookie', 'a=b')]",
    "a header of this connection": "the gateway lacks [('x-hop', '1')]",
    "a header of ours": "the gateway lacks [('x-tokenferry-account', 'other')]",
}
NAMED_ANSWERS: Final = {
    "an early hint": "103, the gateway 200",
    "a stream cut off": "200 cut, the gateway 200",  # it ends in an error event
    "a stream of a length": "the gateway lacks [('content-length', '270')]",  # it may add events
    "a redirect": "307, the gateway 502",
    "a cookie": "the gateway lacks [('set-cookie', 'a=b')]",
    "a header of this connection": "the gateway lacks [('x-hop', '1')]",
    "a page": "the gateway lacks [('content-type', 'text/html; charset=utf-8')], "
    "adds [('content-type', 'text/plain; charset=utf-8')]",
    "two lengths": "200, the gateway 502",
    "a length and chunks": "200, the gateway 502",
    "no HTTP": "no answer, the gateway 502",
}
NAMED_REFUSED: Final = {
    "another coding": "501, the gateway 400",
    "two codings": "501, the gateway 400",
    "a disguised coding": "501, the gateway 400",
    "a header without a colon": "200, the gateway 400",
    "lines that end in a line feed": "200, the gateway 400",
    "HTTP/1.0": "200, the gateway 505",
    "HTTP/0.9": "no answer, the gateway 505",
    "a whole address": "200, the gateway 400",
    "a fragment": "200, the gateway 400",
    "an unknown method": "200, the gateway 400",
    "a header of 100 kB": "400, the gateway 431",
    "500 headers": "400, the gateway 431",
}

Relays: TypeAlias = dict[str, tuple[int, str]]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        upstream.answer = ANSWERS["a length"]
        yield upstream


@pytest.fixture
def relays(upstream: Upstream, home: Home, tmp_path: Path) -> Iterator[Relays]:
    """The port of each, and the key to present there."""
    write_config(home, f'[[providers]]\nname = "wire"\nbase_url = "{upstream.url}"\n')
    added = tokenferry("account", "add", "a", "--provider", "wire", "--kind", "api-key", stdin=ACCOUNT_KEY)
    assert added.code == 0, added.err
    with (
        running_nginx(tmp_path / "nginx", upstream=upstream.url, credential=ACCOUNT_KEY) as port,
        running("serve", tmp_path) as gateway,
    ):
        key = tokenferry("token", "--gateway").out.strip()
        yield {"nginx": (port, key), "gateway": (int(gateway.url.rpartition(":")[2]), key)}


def through(relay: tuple[int, str], raw: bytes, *, count: int = 1) -> list[Answered]:
    port, key = relay
    return ask(port, raw.replace(b"HOST", f"127.0.0.1:{port}".encode()).replace(b"KEY", key.encode()), count=count)


def difference(theirs: Headers, ours: Headers, not_compared: set[str]) -> str:
    theirs, ours = (sorted(header for header in headers if header[0] not in not_compared) for headers in (theirs, ours))
    lacking = [header for header in theirs if header not in ours]
    added = [header for header in ours if header not in theirs]
    told = [f"{word} {which}" for word, which in (("lacks", lacking), ("adds", added)) if which]
    if not told and theirs != ours:
        told = ["repeats headers otherwise"]
    return f"the gateway {', '.join(told)}" if told else ""


def outcome(answered: Answered) -> str:
    return "no answer" if not answered.status else f"{answered.status}{' cut' * answered.is_cut}"


def compared(theirs: Answered, ours: Answered) -> str:
    if outcome(theirs) != outcome(ours):
        return f"{outcome(theirs)}, the gateway {outcome(ours)}"
    if ours.header("x-tokenferry-error"):
        return ""  # each words its own errors
    if theirs.body != ours.body:
        return "another body"
    return difference(theirs.headers, ours.headers, NOT_COMPARED_DOWN)


def only_differences(found: dict[str, str]) -> dict[str, str]:
    return {name: told for name, told in found.items() if told}


def forget_what_it_meant(gateway: tuple[int, str], upstream: Upstream) -> None:
    """Errors may bench the account; the next answer is to pass as if there had been none."""
    assert tokenferry("cooldown", "clear", "--all").code == 0
    upstream.answer = ANSWERS["a length"]
    eventually(lambda: through(gateway, request())[0].status == 200, "the account serves again")


def test_requests_arrive_as_they_do_through_nginx(relays: Relays, upstream: Upstream) -> None:
    found = {}
    for name, raw in REQUESTS.items():
        upstream.arrived.clear()
        answers = [answered for relay in relays.values() for answered in through(relay, raw)]
        assert [answered.status for answered in answers] == [200, 200], (name, answers)
        theirs, ours = upstream.arrived
        assert (ours.line, ours.body) == (theirs.line, theirs.body), name
        assert [header for header in ours.headers if header[1] == ACCOUNT_KEY] == [("x-api-key", ACCOUNT_KEY)]
        found[name] = difference(theirs.headers, ours.headers, NOT_COMPARED_UP)
    assert only_differences(found) == NAMED_REQUESTS


def test_answers_arrive_as_they_do_through_nginx(relays: Relays, upstream: Upstream) -> None:
    found = {}
    for name, raw in ANSWERS.items():
        upstream.answer = raw
        theirs, ours = (answered for relay in relays.values() for answered in through(relay, request()))
        found[name] = compared(theirs, ours)
        if name.isdigit():
            forget_what_it_meant(relays["gateway"], upstream)
        if name == "a stream cut off":
            passed, mark, _ = ours.body.partition(b"event: error\n")
            assert mark
            assert theirs.body.startswith(passed)
            assert passed.endswith((b"\n\n", b"\r\n\r\n"))
    assert only_differences(found) == NAMED_ANSWERS


def test_requests_that_follow_at_once_are_answered_in_order(relays: Relays, upstream: Upstream) -> None:
    raw = b"".join(request(f"x-number: {number}") for number in range(5))
    for relay in relays.values():
        upstream.arrived.clear()
        assert [answered.status for answered in through(relay, raw, count=5)] == [200] * 5
        assert [dict(one.headers)["x-number"] for one in upstream.arrived] == [str(number) for number in range(5)]


def test_what_nginx_refuses_is_refused(relays: Relays, upstream: Upstream) -> None:
    """And more than that; nothing of it reaches the upstream."""
    found = {}
    for name, raw in REFUSED.items():
        (theirs,) = through(relays["nginx"], raw)
        upstream.arrived.clear()
        (ours,) = through(relays["gateway"], raw)
        assert upstream.arrived == [], name
        found[name] = compared(theirs, ours)
    assert only_differences(found) == NAMED_REFUSED
