import json

import pytest

from gateway.rig import Gate, Origin, Source, error_of, running_gate
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.proxy.body import BodyBudget, RequestBody, parse_body
from tokenferry.routing import Router
from tokenferry.settings import RouterSettings

pytestmark = pytest.mark.anyio


def body_of(*chunks: bytes) -> RequestBody:
    body = RequestBody(BodyBudget())
    for chunk in chunks:
        body.add(chunk, 1 << 30)
    return body


async def test_a_body_is_one_piece_once_it_is_read() -> None:
    body = body_of(b'{"stream":true,' + b" " * 20_000, b'"model":"x"}')
    facts = parse_body(body)
    assert (facts.model, facts.stream) == ("x", True)
    assert body.chunks == [facts.body]
    assert body.size == len(facts.body)
    whole = b'{"model":"x"}'
    body = body_of(whole)
    assert parse_body(body).body is whole


@pytest.mark.parametrize(
    ("content", "cause"), [(b'{"model":"a","mod\\u0065l":"b"}', "two_models"), (b"[", "no_json"), (b"\xff", "no_json")]
)
async def test_what_is_no_request_goes_nowhere(gate: Gate, origin: Origin, content: bytes, cause: str) -> None:
    with pytest.raises(GatewayError):
        parse_body(body_of(content))
    for path in (b"/v1/messages", b"/v1/messages/count_tokens"):
        reply = await gate.call(path, body=content)
        assert reply.status == 400
        error = json.loads(reply.body)["error"]
        assert error["type"] == "invalid_request_error"
        assert reply.all(b"x-tokenferry-error") == [cause.encode()]
        assert reply.all(b"x-should-retry") == [b"false"]
    assert origin.seen == []


async def test_a_body_that_a_rule_could_not_read_in_time_is_refused(source: Source, origin: Origin) -> None:
    router = Router(RouterSettings(unmapped="default", background="x"))
    body = b'{"model":"claude-x","system":"' + b"<CCM-SUBAGENT-MODEL>" * 1000 + b'"}'
    async with running_gate(source, router=router) as gate:
        reply = await gate.call(body=body)
        record = await gate.records.last()
    assert (reply.status, record.error) == (400, "too_complex")
    assert "send less" in error_of(reply.body)["message"]
    assert reply.all(b"x-should-retry") == [b"false"]
    assert not origin.seen
