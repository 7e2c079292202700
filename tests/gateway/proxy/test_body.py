import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rig import Gate, Origin, Seen, Source, error_of, read_reply, running_gate
from tokenferry.gateway.http.client_api import MESSAGES
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.proxy.body import STALLED_SECONDS, BodyBudget, Holder, RequestBody, parse_body
from tokenferry.routing import Router
from tokenferry.settings import RouterSettings

pytestmark = pytest.mark.anyio


def body_of(*chunks: bytes) -> RequestBody:
    body = RequestBody(BodyBudget())
    for chunk in chunks:
        body.add(chunk, 1 << 30)
    return body


async def test_a_body_that_comes_in_crumbs_is_kept_in_pieces() -> None:
    body = body_of(*(b"%02d" % (number % 100) for number in range(50_000)))
    assert body.size == 100_000
    assert b"".join(body.chunks) == b"".join(b"%02d" % (number % 100) for number in range(50_000))
    assert len(body.chunks) < 10


async def test_each_crumb_is_copied_once() -> None:
    body = body_of(b"a", b"b")
    first = body.chunks[0]
    body.add(b"c", 1 << 30)
    assert body.chunks == [b"abc"]
    assert body.chunks[0] is first


class Holding:
    """A request whose body may be given up."""

    def __init__(self, budget: BodyBudget, key: str, size: int) -> None:
        self.body = RequestBody(budget)
        self.body.claim(key, self.refuse)
        self.error: GatewayError | None = None
        self.add(size)

    def add(self, size: int) -> None:
        self.body.add(bytes(size), 1 << 30)

    def refuse(self, error: GatewayError) -> None:
        self.error = error
        self.body.release()


MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_one_key_holds_half_at_most_and_the_others_are_served() -> None:
    budget = BodyBudget(8 * MIB)
    held = [Holding(budget, "guest", MIB) for _ in range(4)]
    with pytest.raises(GatewayError, match="this client key use their half") as refused:
        Holding(budget, "guest", 1)
    assert (refused.value.status, refused.value.should_retry, refused.value.cause) == (503, True, "body_memory_full")
    other = Holding(budget, "other", 4 * MIB)
    assert not any(one.error for one in (*held, other))
    held[0].body.release()
    Holding(budget, "guest", MIB)


async def test_of_the_largest_holder_what_stopped_coming_goes_first_and_no_more_than_needed() -> None:
    clock = Clock()
    budget = BodyBudget(8 * MIB, clock=clock)
    small, large, going = (Holding(budget, "guest", size * MIB) for size in (1, 2, 1))
    less = Holding(budget, "other", 3 * MIB)
    whole = Holding(budget, "third", MIB)
    whole.body.complete()
    with pytest.raises(GatewayError, match="memory for request bodies is full"):
        Holding(budget, "fourth", MIB)
    clock.now += STALLED_SECONDS
    going.body.last_byte = clock()
    fourth = Holding(budget, "fourth", 2 * MIB)
    assert large.error is not None
    assert "stopped arriving" in large.error.message
    assert not any(one.error for one in (small, going, less, whole, fourth))
    Holding(budget, "fourth", 2 * MIB)
    assert less.error is not None
    assert not any(one.error for one in (small, going, whole, fourth))


async def test_a_body_that_goes_on_after_a_stall_is_not_given_up_for_its_own_chunk() -> None:
    clock = Clock()
    budget = BodyBudget(8 * MIB, clock=clock)
    guest, other, third = (Holding(budget, key, size * MIB) for key, size in (("guest", 3), ("other", 4), ("third", 1)))
    for one in (other, third):
        one.body.complete()
    clock.now += STALLED_SECONDS
    with pytest.raises(GatewayError, match="memory for request bodies is full"):
        guest.add(MIB)
    assert (guest.error, guest.body.size) == (None, 3 * MIB)
    guest.body.release()
    assert (budget.held, budget.holder("guest").held, budget.holder("guest").bodies) == (5 * MIB, 0, set())


async def test_a_body_counts_for_its_key_once_that_is_known() -> None:
    budget = BodyBudget(8 * MIB)
    body = RequestBody(budget)
    body.add(bytes(3 * MIB), 1 << 30)
    assert (budget.held, budget.unclaimed.held, budget.holder("guest").held) == (3 * MIB, 3 * MIB, 0)
    body.claim("guest")
    assert (budget.held, budget.unclaimed.held, budget.holder("guest").held) == (3 * MIB, 0, 3 * MIB)
    late = RequestBody(budget)
    late.add(bytes(2 * MIB), 1 << 30)
    with pytest.raises(GatewayError):
        late.claim("guest")
    late.release()
    body.release()
    body.release()
    assert (budget.held, budget.unclaimed.held, budget.holder("guest").held) == (0, 0, 0)


STEPS = st.sampled_from(["claim", "add", "end", "release", "wait"])


@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), STEPS)))
def test_what_is_held_is_the_sum_of_what_is_there(steps: list[tuple[str, int, str]]) -> None:
    clock = Clock()
    budget = BodyBudget(16 * MIB, clock=clock)
    bodies: dict[tuple[str, int], RequestBody] = {}
    for key, number, step in steps:
        body = bodies.setdefault((key, number), RequestBody(budget))
        try:
            if step == "claim":
                body.claim(key, lambda _, body=body: body.release())  # type: ignore[misc]
            elif step == "add":
                body.add(bytes(3 * MIB), 1 << 30)
            elif step == "end":
                body.complete()
            elif step == "release":
                body.release()
            else:
                clock.now += number * 2
        except GatewayError:
            body.release()
        assert budget.held == sum(one.size for one in bodies.values()) <= budget.limit
        holders = [budget.unclaimed, *(budget.holder(name) for name in "abc")]
        assert budget.held == sum(holder.held for holder in holders)
        assert all(holder.held <= budget.limit // 2 for holder in holders)
        assert not any(one.size == 0 for holder in holders for one in holder.bodies)


class Watched(BodyBudget):
    """Tells when 95,000 bytes of a claimed body are there."""

    def __init__(self, limit: int, *, clock: Clock) -> None:
        super().__init__(limit, clock=clock)
        self.filled = asyncio.Event()

    def take(self, holder: Holder, size: int) -> None:
        super().take(holder, size)
        if holder is not self.unclaimed and holder.held == 95_000:
            asyncio.get_running_loop().call_soon(self.filled.set)


async def test_a_client_that_stops_sending_is_answered_when_others_need_the_room(
    source: Source, origin: Origin
) -> None:
    clock = Clock()
    budget = Watched(200_000, clock=clock)
    async with running_gate(source, budget=budget) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=100_000) + bytes(95_000))
        await budget.filled.wait()
        clock.now += STALLED_SECONDS
        budget.limit = 100_000  # as if other keys held the rest
        body = RequestBody(budget)
        body.add(bytes(30_000), 1 << 20)
        given_up = await read_reply(reader)
        body.release()
    assert given_up.status == 503
    assert given_up.all(b"connection") == [b"close"]
    assert budget.held == 0
    assert origin.seen == []


async def test_large_chunks_are_kept_as_they_came() -> None:
    large = bytes(100_000)
    body = body_of(large, b"small", large)
    assert body.chunks[0] is body.chunks[2] is large


async def test_a_client_that_leaves_after_a_large_body_stops_the_upstream(gate: Gate, origin: Origin) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        lost.set()

    origin.scripts = [silent]
    size = 300_000
    async with gate.open() as (_, writer):
        writer.write(gate.head(length=size) + b"{}" + b" " * (size - 2))
        await asked.wait()
    await asyncio.wait_for(lost.wait(), 20)
    record = await gate.records.last()
    assert (record.status, record.error) == (499, "client_gone")


async def test_a_body_is_one_piece_once_it_is_read() -> None:
    body = body_of(b'{"stream":true,' + b" " * 20_000, b'"model":"x"}')
    facts = parse_body(body, MESSAGES)
    assert (facts.model, facts.stream) == ("x", True)
    assert body.chunks == [facts.body]
    assert body.size == len(facts.body)
    whole = b'{"model":"x"}'
    body = body_of(whole)
    assert parse_body(body, MESSAGES).body is whole


@pytest.mark.parametrize(
    ("content", "cause"), [(b'{"model":"a","mod\\u0065l":"b"}', "two_models"), (b"[", "no_json"), (b"\xff", "no_json")]
)
async def test_what_is_no_request_goes_nowhere(gate: Gate, origin: Origin, content: bytes, cause: str) -> None:
    with pytest.raises(GatewayError):
        parse_body(body_of(content), MESSAGES)
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
