"""What a gateway listens on: TCP, a Unix socket, TLS, and the file that tells its port."""

import contextlib
import os
import socket
import ssl
import stat
from pathlib import Path

import pytest
import trustme

from tokenferry.errors import ConfigError, StorageFailed, UnsafeFile
from tokenferry.gateway import bind, bind_unix, remove_port_file, remove_unix, renew_tls, server_tls, write_port_file
from tokenferry.gateway.server.sockets import holder
from tokenferry.settings import Home


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
    with pytest.raises(ConfigError, match="is not a loopback address"):
        bind(host, 0)


def test_a_port_in_use_is_reported_with_its_holder() -> None:
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


def test_the_port_file_is_removed_unless_another_process_replaced_it(tmp_path: Path) -> None:
    path = tmp_path / "port"
    for content in ("13457\n", "no port"):
        path.write_text(content)
        remove_port_file(path, 13456)
        assert path.read_text() == content
    write_port_file(path, 13456)
    remove_port_file(path, 13456)
    assert not path.exists()
    remove_port_file(path, 13456)


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


def test_a_socket_with_a_listener_is_refused(home: Home) -> None:
    path = home.path / "gateway.sock"
    with bind_unix(path, home.locks):
        made = path.lstat()
        with pytest.raises(ConfigError, match=f"another process listens on {path}"):
            bind_unix(path, home.locks)
        assert os.path.samestat(made, path.lstat())


def test_a_file_of_another_kind_is_left_alone(home: Home) -> None:
    path = home.path / "gateway.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is not a socket"):
        bind_unix(path, home.locks)
    assert path.read_text() == "mine"


def test_a_folder_of_all_users_is_refused(home: Home) -> None:
    folder = home.path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(UnsafeFile, match=f"the folder {folder} is shared with other users"):
        bind_unix(folder / "gateway.sock", home.locks)


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o777])
def test_a_folder_that_others_reach_is_refused(home: Home, mode: int) -> None:
    folder = home.path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UnsafeFile, match=f"chmod .* '{folder}'"):
        bind_unix(folder / "gateway.sock", home.locks)


def test_a_path_that_is_too_long_is_reported(home: Home) -> None:
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


ISSUED = trustme.CA().issue_cert("127.0.0.1")
OTHER = trustme.CA().issue_cert("127.0.0.1")
ISSUED_BY, OTHER_BY = (ssl.PEM_cert_to_DER_cert(one.cert_chain_pems[0].bytes().decode()) for one in (ISSUED, OTHER))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "cert.pem"
    path.write_bytes(b"".join(blob.bytes() for blob in ISSUED.cert_chain_pems))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.touch(0o600)
    path.write_bytes(ISSUED.private_key_pem.bytes())
    return path


def test_old_versions_are_not_spoken(certificate: Path, key: Path) -> None:
    assert server_tls(certificate, key).minimum_version is ssl.TLSVersion.TLSv1_2


def test_links_are_followed_to_files_that_are_safe(certificate: Path, key: Path, tmp_path: Path) -> None:
    link = tmp_path / "live.pem"
    link.symlink_to(key)
    server_tls(certificate, link)
    key.chmod(0o640)
    with pytest.raises(UnsafeFile, match=f"chmod 0600 '{key}'"):
        server_tls(certificate, link)


def test_a_certificate_that_others_could_write_is_refused(certificate: Path, key: Path) -> None:
    certificate.chmod(0o666)
    with pytest.raises(UnsafeFile, match=str(certificate)):
        server_tls(certificate, key)


def test_what_is_missing_is_named(certificate: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem not found; .* tls_cert and tls_key under \[server\]$"):
        server_tls(certificate, tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=r"missing\.pem not found; .* --tls-cert and --tls-key$"):
        server_tls(certificate, tmp_path / "missing.pem", by_option=True)


@pytest.mark.parametrize("content", [b"", b"no key", OTHER.private_key_pem.bytes()])
def test_an_invalid_certificate_is_reported(certificate: Path, key: Path, content: bytes) -> None:
    key.write_bytes(content)
    with pytest.raises(ConfigError, match="make no TLS certificate"):
        server_tls(certificate, key)


def test_a_password_is_not_asked_for(certificate: Path, key: Path) -> None:
    key.write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigError, match=r"protected by a password; .* tls_key under"):
        server_tls(certificate, key)
    with pytest.raises(ConfigError, match=r"protected by a password; .* --tls-key$"):
        server_tls(certificate, key, by_option=True)


def test_what_belongs_not_together_leaves_the_former_certificate(certificate: Path, key: Path) -> None:
    context = server_tls(certificate, key)
    key.write_bytes(OTHER.private_key_pem.bytes())
    with pytest.raises(ConfigError, match="make no TLS certificate"):
        renew_tls(context, certificate, key)
    assert shown(context) == ISSUED_BY
    certificate.write_bytes(b"".join(blob.bytes() for blob in OTHER.cert_chain_pems))
    renew_tls(context, certificate, key)
    assert shown(context) == OTHER_BY


def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a client is shown, in DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found
