import os
import socket
import stat
from pathlib import Path

import pytest

from tokenferry.errors import ConfigError, UnsafeFile
from tokenferry.gateway import bind_unix, remove_unix
from tokenferry.settings import Home


def test_the_socket_is_ours_alone_in_a_folder_of_ours(home: Home) -> None:
    path = home.path / "run" / "gateway.sock"
    before = os.umask(0)
    try:
        with bind_unix(path, home.locks) as sock:
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(sock.getsockname())
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_what_a_dead_process_left_is_replaced(home: Home) -> None:
    path = home.path / "gateway.sock"
    bind_unix(path, home.locks).close()
    assert path.exists()
    with bind_unix(path, home.locks), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_one_that_somebody_listens_on_is_refused(home: Home) -> None:
    path = home.path / "gateway.sock"
    with bind_unix(path, home.locks):
        made = path.lstat()
        with pytest.raises(ConfigError, match=f"another process listens on {path}"):
            bind_unix(path, home.locks)
        assert os.path.samestat(made, path.lstat())


def test_a_file_of_another_kind_is_left_alone(home: Home) -> None:
    path = home.path / "gateway.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        bind_unix(path, home.locks)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o777, 0o1777])
def test_a_folder_that_others_reach_is_refused(home: Home, mode: int) -> None:
    folder = home.path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UnsafeFile, match=f"chmod .* '{folder}'"):
        bind_unix(folder / "gateway.sock", home.locks)


def test_a_path_that_is_too_long_is_told(home: Home) -> None:
    with pytest.raises(ConfigError, match="too long for a Unix socket"):
        bind_unix(home.path / ("x" * 110), home.locks)


def test_only_the_socket_that_was_made_is_removed(home: Home) -> None:
    path = home.path / "gateway.sock"
    with bind_unix(path, home.locks):
        made = path.lstat()
    other = home.path / "other.sock"
    with bind_unix(other, home.locks):
        remove_unix(path, other.lstat())
        assert path.exists()
    remove_unix(path, made)
    assert not path.exists()
    remove_unix(Path("/nowhere"), made)
