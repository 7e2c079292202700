import asyncio
import datetime as dt
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from tokenferry.upstream import ConnectError, UpstreamClient, _tls
from tokenferry.upstream._happy_eyeballs import DialError
from tokenferry.upstream._tls import client_context

if TYPE_CHECKING:
    from upstream.conftest import Client, Peer, StartPeer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's contexts are made once; here every test makes its own."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    _tls._make.cache_clear()
    yield
    _tls._make.cache_clear()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def test_certificates_and_host_names_are_checked_and_old_tls_is_refused() -> None:
    context = client_context()
    assert context is client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def refused(upstream: UpstreamClient, client: "Client") -> str:
    record = client.get(upstream)
    await record.over.wait()
    await upstream.aclose()
    (failure,) = record.failures
    assert isinstance(failure, ConnectError)
    assert not failure.sent
    return str(failure)


async def accepted(upstream: UpstreamClient, peer: "Peer", client: "Client") -> "ssl.SSLObject":
    record = client.get(upstream)
    link = await peer.link()
    await link.answer()
    await record.over.wait()
    assert record.ends == 1
    await upstream.aclose()
    tls: ssl.SSLObject = link.writer.get_extra_info("ssl_object")
    return tls


async def test_an_authority_of_one_s_own_is_trusted_by_setting(
    tls_peer: "Peer", client: "Client", ca_file: Path
) -> None:
    assert "[upstream] ca_file" in await refused(UpstreamClient(tls_peer.origin), client)
    await accepted(UpstreamClient(tls_peer.origin, ca_file=ca_file), tls_peer, client)


def test_an_authority_of_one_s_own_is_trusted_beside_the_system_s(ca_file: Path) -> None:
    assert len(client_context(ca_file).get_ca_certs()) == len(client_context().get_ca_certs()) + 1


async def test_ssl_cert_file_is_honoured(
    tls_peer: "Peer", client: "Client", ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    await accepted(UpstreamClient(tls_peer.origin), tls_peer, client)


async def test_only_http_1_1_is_offered(tls_peer: "Peer", client: "Client", ca_file: Path) -> None:
    tls = await accepted(UpstreamClient(tls_peer.origin, ca_file=ca_file), tls_peer, client)
    assert tls.selected_alpn_protocol() == "http/1.1"


def missing(monkeypatch: pytest.MonkeyPatch, path: Path) -> Path | None:
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return None


@pytest.mark.parametrize(
    ("prepare", "told"),
    [(missing, "SSL_CERT_FILE="), (lambda _, path: path, "[upstream] ca_file")],
    ids=["variable", "setting"],
)
@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_certificates_that_cannot_be_read_are_named(  # noqa: PLR0917  # fixtures
    tls_peer: "Peer",
    client: "Client",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[pytest.MonkeyPatch, Path], Path | None],
    told: str,
    content: bytes | None,
) -> None:
    path = tmp_path / "absent.pem"
    if content is not None:
        path.write_bytes(content)
    message = await refused(UpstreamClient(tls_peer.origin, ca_file=prepare(monkeypatch, path)), client)
    assert told in message
    assert str(path) in message
    with pytest.raises(DialError):  # and it is tried again: the file may be mended by then
        await asyncio.to_thread(client_context, prepare(monkeypatch, path))


async def test_an_expired_certificate_is_refused(
    start_peer: "StartPeer", client: "Client", authority: trustme.CA, ca_file: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    authority.issue_cert("localhost", not_after=yesterday).configure_cert(context)
    peer = await start_peer(context)
    assert "expired" in await refused(UpstreamClient(peer.origin, ca_file=ca_file), client)


async def test_a_certificate_for_another_name_is_not_blamed_on_the_authority(
    tls_peer: "Peer", client: "Client", ca_file: Path
) -> None:
    message = await refused(UpstreamClient(f"https://127.0.0.1:{tls_peer.port}", ca_file=ca_file), client)
    assert "not trusted" in message
    assert "ca_file" not in message
