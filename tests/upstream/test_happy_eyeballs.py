import asyncio
import socket
from collections.abc import Iterator

import pytest

from tokenferry.upstream import _happy_eyeballs as _dial
from tokenferry.upstream._happy_eyeballs import Address, happy_eyeballs, interleave, resolve

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def loopback(port: int) -> Address:
    return Address(socket.AF_INET, ("127.0.0.1", port))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_connects_without_nagle_and_with_probes(listener: socket.socket) -> None:
    with await happy_eyeballs([loopback(listener.getsockname()[1])]) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_goes_on_to_the_next_address_when_one_refuses(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with await happy_eyeballs([loopback(free_port()), loopback(free_port()), loopback(port)], head_start=3600) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)


async def test_tries_the_next_address_while_one_is_silent(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    silent = socket.socket()
    waiting: list[socket.socket] = []
    try:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(8):  # a full backlog drops what else comes
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(silent.getsockname())
        with await happy_eyeballs([loopback(silent.getsockname()[1]), loopback(port)], head_start=0.01) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
    finally:
        for sock in (silent, *waiting):
            sock.close()


async def test_reports_the_first_failure_when_none_answers() -> None:
    with pytest.raises(ConnectionRefusedError):
        await happy_eyeballs([loopback(free_port()), loopback(free_port())])
    with pytest.raises(OSError, match="no address"):
        await happy_eyeballs([])


async def test_closes_the_sockets_of_those_that_come_second(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    started = asyncio.Semaphore(0)
    sockets: list[socket.socket] = []

    async def connect(_: Address) -> socket.socket:
        started.release()
        await gate.wait()
        sockets.append(socket.socket())
        return sockets[-1]

    monkeypatch.setattr(_dial, "_connect", connect)
    connecting = asyncio.create_task(happy_eyeballs([loopback(1)] * 3, head_start=0))
    for _ in range(3):
        await started.acquire()
    gate.set()
    winner = await connecting
    await asyncio.sleep(0)
    assert len(sockets) == 3
    assert [sock for sock in sockets if sock.fileno() >= 0] == [winner]
    winner.close()


async def test_closes_the_sockets_of_a_cancelled_attempt(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    task = asyncio.create_task(happy_eyeballs([loopback(port), loopback(port)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_alternates_between_the_families() -> None:
    six = [Address(socket.AF_INET6, (f"::{i}", 1, 0, 0)) for i in range(3)]
    four = [Address(socket.AF_INET, (f"127.0.0.{i}", 1)) for i in range(1, 3)]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleave([]) == []


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", Address(socket.AF_INET, ("127.0.0.1", 443))),
        ("::1", Address(socket.AF_INET6, ("::1", 443, 0, 0))),
    ],
)
def test_an_address_is_not_looked_up(host: str, address: Address) -> None:
    with pytest.raises(StopIteration) as done:
        resolve(host, 443).send(None)  # it is over before it waits for anything
    assert done.value.value == [address]


async def test_a_name_is_looked_up() -> None:
    assert loopback(443) in await resolve("localhost", 443)


async def test_a_name_that_is_none_says_so() -> None:
    with pytest.raises(UnicodeError):
        await resolve("a" * 64 + ".example", 443)
