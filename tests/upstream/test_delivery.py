"""What was read is handed over once everything that has come by then is read, and not a byte of it is lost by that."""

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.upstream import AnswerCut, Call, ResponseHead, UpstreamClient, UpstreamError
from tokenferry.upstream._connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
TARGET = b"/v1/messages"


class Transport:
    """Writes nowhere."""

    def __init__(self) -> None:
        self.is_aborted = False
        self.flow: list[str] = []
        """What it was asked to do."""

    def pause_reading(self) -> None:
        self.flow.append("pause")

    def resume_reading(self) -> None:
        assert not self.is_aborted
        self.flow.append("resume")

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        pass


class Told:
    """A sink that writes down what it hears."""

    def __init__(self, *, raises: bool = False) -> None:
        self.all: list[str] = []
        self.body = b""
        self.on_part: Callable[[], object] = lambda: None
        self._raises = raises

    def on_head(self, head: ResponseHead) -> None:
        if self._raises:
            raise RuntimeError
        self.all.append(f"head {head.status}")

    def on_body(self, chunk: bytes) -> None:
        self.all.append("body")
        self.body += chunk
        self.on_part()

    def on_end(self) -> None:
        self.all.append("end")

    def on_failure(self, failure: UpstreamError) -> None:
        self.all.append(type(failure).__name__)


class Rig:
    """An upstream with idle connections that end in these transports."""

    def __init__(self, *, max_connections: int | None = None) -> None:
        self.upstream = UpstreamClient("http://127.0.0.1:9", max_connections=max_connections)

    def connect(self) -> tuple[Connection, Transport]:
        connection, transport = Connection(self.upstream), Transport()
        connection.connection_made(cast("asyncio.Transport", transport))
        self.upstream.release(connection)
        return connection, transport

    def send(self, told: Told) -> Call:
        return self.upstream.send("GET", TARGET, (), b"", told)


async def test_calls_are_informed_in_order_after_all_is_read() -> None:
    rig, first, second = Rig(), Told(), Told()
    (one, _), (two, _) = rig.connect(), rig.connect()
    rig.send(second)
    rig.send(first)
    one.data_received(HEAD + b"hello")
    two.data_received(HEAD + b"world")
    assert first.all == second.all == []
    await asyncio.sleep(0)
    assert first.all == second.all == ["head 200", "body", "end"]
    assert (first.body, second.body) == (b"hello", b"world")


async def test_of_one_call_no_more_than_one_read_waits() -> None:
    """Else a peer that sends faster than its answer is taken would fill the memory before it is told to pause."""
    rig, told = Rig(), Told()
    connection, _ = rig.connect()
    rig.send(told)
    connection.data_received(HEAD)
    connection.data_received(b"he")
    assert told.all == ["head 200"]
    connection.data_received(b"llo")
    assert told.body == b"he"
    await asyncio.sleep(0)
    assert told.all == ["head 200", "body", "body", "end"]
    assert told.body == b"hello"


async def test_a_second_read_in_a_round_of_the_loop_is_the_last_of_it() -> None:
    """Else the loop would serve nobody but a peer that sends without a pause."""
    rig, told = Rig(), Told()
    connection, transport = rig.connect()
    rig.send(told)
    connection.data_received(HEAD)
    assert transport.flow == []
    connection.data_received(b"he")
    assert transport.flow == ["pause"]
    await asyncio.sleep(0)
    assert (told.body, transport.flow) == (b"he", ["pause", "resume"])


async def test_a_call_that_pauses_meanwhile_stays_paused() -> None:
    rig, told = Rig(), Told()
    connection, transport = rig.connect()
    call = rig.send(told)
    connection.data_received(HEAD)
    connection.data_received(b"he")
    call.pause()
    await asyncio.sleep(0)
    assert set(transport.flow) == {"pause"}
    call.resume()
    assert transport.flow.pop() == "resume"
    connection.data_received(b"l")
    connection.data_received(b"l")
    call.pause()
    call.resume()
    assert set(transport.flow) == {"pause"}
    await asyncio.sleep(0)
    assert transport.flow.pop() == "resume"


@pytest.mark.parametrize("is_lost", [False, True])
async def test_the_end_of_a_connection_comes_after_what_it_brought(*, is_lost: bool) -> None:
    rig, told = Rig(), Told()
    connection, _ = rig.connect()
    rig.send(told)
    connection.data_received(HEAD + b"hel")
    connection.connection_lost(OSError()) if is_lost else connection.eof_received()
    assert told.all == ["head 200", "body", AnswerCut.__name__]


async def test_an_abandoned_call_takes_its_connection_from_no_other() -> None:
    """Its answer is whole, so that the connection is another call's by now."""
    rig, given_up, other = Rig(), Told(), Told()
    connection, transport = rig.connect()
    call = rig.send(given_up)
    connection.data_received(HEAD + b"hello")
    rig.send(other)
    call.abort()
    connection.data_received(HEAD + b"other")
    await asyncio.sleep(0)
    assert given_up.all == []
    assert not transport.is_aborted
    assert (other.all, other.body) == (["head 200", "body", "end"], b"other")


async def test_a_connection_dropped_for_its_first_bytes_serves_no_other_call() -> None:
    """What it brings after that may be the end of its answer, which would make it an idle one."""
    rig, given_up = Rig(), Told()
    connection, transport = rig.connect()
    call = rig.send(given_up)
    given_up.on_part = call.abort
    connection.data_received(HEAD + b"he")
    connection.data_received(b"llo")
    assert transport.is_aborted
    assert rig.upstream.statistics().idle == 0
    await asyncio.sleep(0)
    assert given_up.all == ["head 200", "body"]


async def test_a_sink_that_raises_keeps_nothing_from_others() -> None:
    rig, broken, other = Rig(), Told(raises=True), Told()
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    (one, _), (two, _) = rig.connect(), rig.connect()
    rig.send(other)
    rig.send(broken)
    two.data_received(HEAD + b"hello")
    one.data_received(HEAD + b"hello")
    await asyncio.sleep(0)
    assert [type(one["exception"]) for one in told] == [RuntimeError]
    assert (broken.all, other.all) == ([], ["head 200", "body", "end"])


async def test_a_whole_answer_that_waits_for_delivery_is_not_too_late() -> None:
    rig, told = Rig(), Told()
    connection, transport = rig.connect()
    rig.send(told)
    connection.data_received(HEAD + b"hello")
    closing = asyncio.ensure_future(rig.upstream.aclose())
    await asyncio.sleep(0)
    connection.connection_lost(None)
    await closing
    assert told.all == ["head 200", "body", "end"]
    assert transport.is_aborted


async def test_a_call_that_is_sent_again_waits_for_a_new_connection() -> None:
    """One that another call has done with may be as stale as the first; there is no third time."""
    rig, first, again, last = Rig(max_connections=2), Told(), Told(), Told()
    (one, _), (two, transport) = rig.connect(), rig.connect()
    rig.send(first)
    rig.send(again)
    rig.send(last)
    one.connection_lost(None)
    two.data_received(HEAD + b"hello")
    assert transport.is_aborted
    two.connection_lost(None)
    assert rig.upstream.statistics().queued == 0
    await rig.upstream.aclose()
    assert first.all == ["head 200", "body", "end"]
    assert again.all == last.all == ["UpstreamClosed"]


async def test_a_dial_given_up_as_it_succeeds_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was made by then uvloop tells no end: the upstream would wait for it as it closes."""
    rig, told, transport = Rig(), Told(), Transport()
    is_made = asyncio.Event()

    async def connect(connection: Connection) -> None:
        connection.connection_made(cast("asyncio.Transport", transport))
        is_made.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.upstream._connector, "connect", connect)
    call = rig.send(told)
    await is_made.wait()
    call.abort()
    await asyncio.wait(rig.upstream._dials)
    assert transport.is_aborted
    assert rig.upstream.statistics().open == 0
    await rig.upstream.aclose()
    assert told.all == []


class Scene:
    """Calls and the connections they are on, each with what its peer has yet to send."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.transports: dict[Connection, Transport] = {}
        self.coming: dict[Connection, bytes] = {}
        self.calls: list[tuple[Call, Told, bytes]] = []
        self.given_up: dict[Told, list[str]] = {}
        self.lost: set[Told] = set()

    def send(self, size: int) -> None:
        """Each third one is given up by its sink once that hears of content."""
        if not self.rig.upstream.statistics().idle:
            connection, transport = self.rig.connect()
            self.transports[connection] = transport
        told, body = Told(), b"%d;" % len(self.calls) * (size % 8)
        call = self.rig.send(told)
        if size % 3 == 0:
            told.on_part = lambda: self.give_up(call, told)
        (connection,) = [one for one in self.transports if one._call is call]
        assert not self.transports[connection].is_aborted
        self.coming[connection] = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        self.calls.append((call, told, body))

    def give_up(self, call: Call, told: Told) -> None:
        call.abort()
        self.given_up.setdefault(told, list(told.all))

    def read(self, connection: Connection, size: int) -> None:
        data, self.coming[connection] = self.coming[connection][:size], self.coming[connection][size:]
        if self.transports[connection].is_aborted:
            self.lose(connection)
            return
        if not self.coming[connection]:
            del self.coming[connection]
        connection.data_received(data)

    def lose(self, connection: Connection) -> None:
        self.lost |= {told for call, told, _ in self.calls if call is connection._call}
        self.coming.pop(connection, None)
        del self.transports[connection]
        connection.connection_lost(None)

    async def play(self, acts: list[tuple[str, int, int]]) -> None:
        for act, which, size in acts:
            busy = list(self.coming)
            if act == "send" or not busy:
                self.send(size)
            elif act == "read":
                self.read(busy[which % len(busy)], size)
            elif act == "give up":
                call, told, _ = self.calls[-1 - which % min(len(self.calls), 3)]
                self.give_up(call, told)
            elif act == "lose":
                connection = busy[which % len(busy)]
                self.read(connection, 1)  # else the request would be sent again
                if connection in self.transports:
                    self.lose(connection)
            else:
                await asyncio.sleep(0)
            idle = self.rig.upstream._idle
            assert not any(connection._call or self.transports[connection].is_aborted for connection in idle)
        while self.coming:
            self.read(next(iter(self.coming)), 50)
        await asyncio.sleep(0)

    def check(self) -> None:
        for _, told, body in self.calls:
            heard = [event for event in told.all if event != "body"]
            if told in self.given_up:
                assert told.all == self.given_up[told]
                assert body.startswith(told.body)
            elif told in self.lost:
                assert heard[-1:] == [AnswerCut.__name__]
                assert heard[:-1] in ([], ["head 200"])
                assert body.startswith(told.body)
            else:
                assert heard == ["head 200", "end"]
                assert told.body == body


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("send", "read", "read", "read", "give up", "lose", "go on")),
            st.integers(0, 5),
            st.integers(1, 60),
        ),
        max_size=60,
    )
)
def test_however_reads_meet_everybody_hears_what_is_theirs_and_once(acts: list[tuple[str, int, int]]) -> None:
    async def play() -> None:
        scene = Scene()
        await scene.play(acts)
        scene.check()

    asyncio.run(play())
