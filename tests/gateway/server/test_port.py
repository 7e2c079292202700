import os
import socket
from pathlib import Path

import pytest

from tokenferry.errors import ConfigError, StorageFailed
from tokenferry.gateway import bind, remove_port_file, write_port_file
from tokenferry.gateway.server.sockets import holder


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("127.0.0.9", "127.0.0.9")]
)
def test_loopback_addresses_are_listened_on(host: str, address: str) -> None:
    with bind(host, 0) as sock:
        assert sock.getsockname()[0] == address
        with socket.create_connection(sock.getsockname(), timeout=5):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", ""])
def test_nothing_else_is(host: str) -> None:
    with pytest.raises(ConfigError, match="on this machine alone"):
        bind(host, 0)


def test_a_port_in_use_is_told_with_its_holder() -> None:
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use by process {os.getpid()} "):
            bind("127.0.0.1", port)


def test_a_holder_that_can_not_be_seen_is_another_process(tmp_path: Path) -> None:
    assert holder(1, tmp_path) == "another process"


def test_the_port_file_holds_the_port_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_text("old")
    write_port_file(path, 13456)
    assert path.read_text() == "13456\n"
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_a_port_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "port"
    with pytest.raises(StorageFailed, match=str(path)):
        write_port_file(path, 1)


def test_the_port_file_is_removed_unless_it_is_anothers_by_now(tmp_path: Path) -> None:
    path = tmp_path / "port"
    for content in ("13457\n", "no port"):
        path.write_text(content)
        remove_port_file(path, 13456)
        assert path.read_text() == content
    write_port_file(path, 13456)
    remove_port_file(path, 13456)
    assert not path.exists()
    remove_port_file(path, 13456)
