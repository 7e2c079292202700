import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

import tokenferry
from integrations.rig import Rig
from refresh.rig import value
from tokenferry.errors import NeedsLogin


class Api:
    """The least of an OpenAI-compatible server: it lists no models and remembers who asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.seen.append(self.headers["authorization"])
                body = json.dumps({"object": "list", "data": []}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    thread = threading.Thread(target=api.server.serve_forever)
    thread.start()
    yield api
    api.server.shutdown()
    thread.join()
    api.server.server_close()


def test_every_request_carries_the_credential_as_it_is_now(rig: Rig, api: Api) -> None:
    with openai.OpenAI(base_url=api.url, api_key=tokenferry.openai_api_key("alice", broker=rig.broker)) as client:
        client.models.list()
        rig.broker.refresh("alice")
        client.models.list()
    assert api.seen == [f"Bearer {value(rig.first)}", f"Bearer {value(rig.broker.resolve('alice'))}"]
    assert api.seen[0] != api.seen[1]


def test_the_same_for_asyncio(rig: Rig, api: Api) -> None:
    key = rig.add_key()

    async def ask() -> None:
        api_key = tokenferry.async_openai_api_key("key", broker=rig.broker)
        async with openai.AsyncOpenAI(base_url=api.url, api_key=api_key) as client:
            await client.models.list()

    asyncio.run(ask())
    assert api.seen == [f"Bearer {key}"]


def test_our_errors_reach_the_caller_and_nothing_is_sent(rig: Rig, api: Api) -> None:
    rig.login(expires_in=-10)
    rig.sandbox.revoke("alice", "family")
    api_key = tokenferry.openai_api_key("alice", broker=rig.broker)
    with openai.OpenAI(base_url=api.url, api_key=api_key) as client, pytest.raises(NeedsLogin):
        client.models.list()
    assert api.seen == []
