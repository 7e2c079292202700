import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from select import select

import pytest

from tokenferry.errors import LoginFailed
from tokenferry.login._http import MAX_HEAD, CallbackReply, CallbackRequest
from tokenferry.login._listener import CallbackListener

TEMPLATE = "http://localhost:{port}/callback"
PATIENCE = 20.0


class Rig:
    def __init__(self) -> None:
        self.asked: list[CallbackRequest | None] = []
        self.now = 0.0
        self.listener = CallbackListener(TEMPLATE, monotonic=lambda: self.now)

    def answer(self, request: CallbackRequest | None) -> CallbackReply:
        self.asked.append(request)
        return CallbackReply(HTTPStatus.OK, "Thank you", "Done.")

    def turn(self) -> None:
        """Do what there is to do, once something is."""
        readable, _, _ = select(self.listener.sockets(), [], [], PATIENCE)
        for one in readable:
            self.listener.ready(one, self.answer)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    with closing(rig.listener):
        yield rig


@contextmanager
def connected(rig: Rig, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection((address, rig.listener.port), timeout=PATIENCE) as client:
        rig.turn()
        yield client


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_answers_at_one_port_of_both_addresses_and_closes_the_connection(rig: Rig, address: str) -> None:
    if address == "::1" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    with connected(rig, address) as client:
        client.sendall(b"GET /callback HTTP/1.1\r\nHost: x\r\n")
        rig.turn()
        assert not rig.asked
        client.sendall(b"\r\n")
        rig.turn()
        data = b""
        while more := client.recv(65_536):
            data += more
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b"</html>\n")
    assert [one and one.path for one in rig.asked] == ["/callback"]


def test_a_silent_client_is_dropped_and_delays_no_other(rig: Rig) -> None:
    with connected(rig) as silent, connected(rig) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        rig.turn()
        assert client.recv(100)
        rig.now = 60.0
        assert len(rig.listener.sockets()) <= 2
        assert silent.recv(1) == b""


def test_a_crowd_of_connections_is_bounded(rig: Rig) -> None:
    clients = []
    for _ in range(40):
        clients.append(socket.create_connection(("127.0.0.1", rig.listener.port), timeout=PATIENCE))
        rig.turn()
    assert len(rig.listener.sockets()) <= 2 + 16
    clients[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    rig.turn()
    assert clients[-1].recv(100)
    for client in clients:
        client.close()


@pytest.mark.parametrize("head", [b"x" * MAX_HEAD, b"nonsense\r\n\r\n"])
def test_what_is_no_head_gets_an_error(rig: Rig, head: bytes) -> None:
    with connected(rig) as client:
        sender = threading.Thread(target=client.sendall, args=(head,))
        sender.start()
        while not rig.asked:
            rig.turn()
        sender.join()
        assert client.recv(100)
    assert rig.asked == [None]


def test_a_client_that_leaves_is_forgotten(rig: Rig) -> None:
    with connected(rig) as client:
        client.sendall(b"GET")
        rig.turn()
    rig.turn()
    assert not rig.asked
    assert len(rig.listener.sockets()) <= 2


def test_when_it_is_closed_nothing_listens(rig: Rig) -> None:
    rig.listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", rig.listener.port))


def test_a_port_in_use_at_either_address_is_not_shared() -> None:
    places = [("127.0.0.1", socket.AF_INET), *([("::1", socket.AF_INET6)] if has_ipv6() else [])]
    for address, family in places:
        with socket.create_server((address, 0), family=family) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(LoginFailed, match=f"port {port} of this machine.*--callback-port"):
                CallbackListener(TEMPLATE, port)


def test_a_template_without_a_port_to_fill_in_names_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    template = f"http://127.0.0.1:{port}/back"
    with closing(CallbackListener(template)) as listener:
        assert (listener.port, listener.redirect_uri) == (port, template)
    with pytest.raises(LoginFailed, match="leave --callback-port out"):
        CallbackListener(template, 1)
