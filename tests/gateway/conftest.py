import socket
from collections.abc import AsyncIterator

import pytest

from gateway.rig import Gate, Origin, Source, api_key, one_account, running_gate, running_origin
from tokenferry.stores import Account


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as origin:
        yield origin


@pytest.fixture
def source(origin: Origin) -> Source:
    return one_account(origin.url)


@pytest.fixture
async def gate(source: Source) -> AsyncIterator[Gate]:
    async with running_gate(source) as gate:
        yield gate


@pytest.fixture
def two_accounts(origin: Origin) -> Source:
    """The accounts `alice` and `bob` of one provider."""
    source = one_account(origin.url)
    source.known.append(Account("bob", "fake", "api-key"))
    source.results["bob"] = [api_key("bob")]
    return source


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
