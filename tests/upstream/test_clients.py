import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from gateway.rig import Seen, answering, error_of, one_account, running_gate
from tokenferry.errors import ConfigError
from tokenferry.gateway import UpstreamClients
from tokenferry.settings import UpstreamSettings
from tokenferry.upstream import UpstreamError
from upstream.responses import fetch

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
PASSWORD = "hunter2"


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The URL of an upstream over TLS, and the file of the authority that vouches for it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answering(OK)(Seen("GET", b"/", [], b""), reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}", tmp_path / "ca.pem"
    server.close()


async def test_reaches_upstreams_as_the_settings_and_the_environment_say(secured: tuple[str, Path]) -> None:
    url, ca_file = secured
    settings = UpstreamSettings(ca_file=ca_file, max_connections=1)
    upstreams = UpstreamClients.configured(settings, {"HTTPS_PROXY": f"socks5://ferry:{PASSWORD}@proxy"})
    responses = await asyncio.gather(*(fetch(upstreams.get(url), "GET", b"/", []) for _ in range(3)))
    assert [await response.read(10) for response in responses] == [b"ok"] * 3
    assert upstreams.get(url) is upstreams.get(url)
    assert upstreams.statistics()[url].dialled == 3
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        upstreams.get("https://api.invalid")
    assert PASSWORD not in str(caught.value)
    await upstreams.aclose()


async def test_a_proxy_s_refusal_reaches_the_client_and_nothing_is_sent() -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstreams = UpstreamClients.configured(UpstreamSettings(), {"ALL_PROXY": f"http://ferry:{PASSWORD}@{place}"})
    async with running_gate(one_account("https://api.invalid"), upstreams=upstreams) as gate:
        reply = await gate.call()
    server.close()
    assert reply.status == 502
    message = error_of(reply.body)["message"]
    assert f"the proxy {place} demands a user name and password (407)" in message
    assert PASSWORD not in message
    assert {head.splitlines()[0] for head in heads} == {b"CONNECT api.invalid:443 HTTP/1.1"}
    assert b"sk-ant" not in b"".join(heads)


async def test_other_settings_make_other_clients_and_those_at_work_end_what_they_are_at(
    secured: tuple[str, Path],
) -> None:
    url, ca_file = secured
    upstreams = UpstreamClients.configured(UpstreamSettings(ca_file=ca_file), {})
    before = upstreams.get(url)
    response = await fetch(before, "GET", b"/", [])
    upstreams.adopt(UpstreamSettings(ca_file=ca_file))
    assert upstreams.get(url) is before
    upstreams.adopt(UpstreamSettings(ca_file=ca_file, max_connections=3))
    assert upstreams.get(url) is not before
    assert await response.read(10) == b"ok"
    again = await fetch(upstreams.get(url), "GET", b"/", [])
    assert await again.read(10) == b"ok"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    upstreams.adopt(UpstreamSettings(ca_file=ca_file, max_connections=3), trust="another")
    with pytest.raises(UpstreamError):
        await fetch(upstreams.get(url), "GET", b"/", [])
    await upstreams.aclose()
