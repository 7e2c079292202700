"""A head that a connection repeats is not read again, and is never taken for another."""

from random import Random
from typing import Any

import pytest

from effort import effort
from gateway.rig import Gate, Headers, Origin, Reply, api_key, one_account, read_reply, running_gate, token
from tokenferry.credentials import Credential
from tokenferry.gateway import EphemeralKey
from tokenferry.gateway.http.errors import REQUEST_ID
from tokenferry.state import ClientKey

pytestmark = pytest.mark.anyio

CHOICES: dict[str, list[Any]] = {
    "start": [
        *[b"POST /v1/messages HTTP/1.1"] * 3,
        b"POST /v1/messages?beta=true HTTP/1.1",
        b"POST /v1/messages?key=sk-1 HTTP/1.1",
        b"POST /v1beta/models/claude:generateContent?key=%b HTTP/1.1",
        b"POST /v1/messages/count_tokens HTTP/1.1",
        b"GET /v1/messages HTTP/1.1",
        b"GET /v1/models HTTP/1.1",
        *[b"POST /v1/messages HTTP/1.0"] * 2,
    ],
    "key": [*[(b"x-api-key", b"%b")] * 4, (b"authorization", b"Bearer %b"), (b"x-api-key", b"no"), None],
    "host": [*[b"%b"] * 8, b"evil.example"],
    "type": [*[b"application/json"] * 6, b"text/plain"],
    "body": [b"{}", b'{"model":"claude"}', b'{"model":"claude","stream":true}', b""],
    "framing": [b"length", b"length", b"chunks"],
    "beta": [None, (b"anthropic-beta", b"one"), (b"anthropic-beta", b"two,one")],
    "coding": [None, (b"accept-encoding", b"gzip")],
    "other": [None, (b"user-agent", b"a"), (b"X-A", b"1"), (b"x-a", b"1"), (b"content-encoding", b"gzip")],
    "named": [None, None, (b"connection", b"x-a"), (b"connection", b"close")],
}

CREDENTIALS: list[Credential] = [api_key("one"), api_key("two"), token("three")]


class Ring(EphemeralKey):
    """A key that may be revoked for a while."""

    is_revoked = False

    def verify(self, presented: str) -> ClientKey | None:
        return None if self.is_revoked else super().verify(presented)


def request(gate: Gate, asked: dict[str, Any]) -> bytes:
    headers: Headers = [(b"host", asked["host"]), (b"content-type", asked["type"])]
    headers += [asked[name] for name in ("beta", "key", "coding", "other", "named") if asked[name] is not None]
    body: bytes = asked["body"]
    if asked["framing"] == b"length":
        headers.append((b"content-length", b"%d" % len(body)))
    else:
        headers.append((b"transfer-encoding", b"chunked"))
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    text = b"\r\n".join([asked["start"], *(b"%b: %b" % header for header in headers), b"", b""])
    for place, value in ((b"host: %b", gate.host), (b"key: %b", gate.key), (b"r %b", gate.key), (b"key=%b", gate.key)):
        text = text.replace(place, place.replace(b"%b", value))
    return text + body


def shown(reply: Reply, origin: Origin) -> tuple[object, ...]:
    """An answer without its id, and what the upstream got for it."""
    (one,) = reply.all(REQUEST_ID) or (b"-",)
    headers = [(name, value.replace(one, b"ID")) for name, value in reply.headers]
    body = reply.body.replace(one, b"ID")
    sent = [(seen.method, seen.target, seen.headers, seen.body) for seen in origin.seen]
    origin.seen.clear()
    return reply.status, headers, body, sent


@pytest.mark.parametrize("seed", range(effort(10) // 5))
async def test_a_kept_connection_answers_as_a_new_one_whatever_it_was_sent_before(origin: Origin, seed: int) -> None:
    rng, keys = Random(seed), Ring()
    source = one_account(origin.url)
    asked = {name: choices[0] for name, choices in CHOICES.items()}
    statuses = set()
    async with running_gate(source, keys=keys, key=keys.secret.reveal()) as gate:
        kept = gate.open()
        reader, writer = await kept.__aenter__()
        for _ in range(150):
            match rng.randrange(10):
                case 0:
                    source.results["alice"] = [rng.choice(CREDENTIALS)]
                case 1:
                    keys.is_revoked = rng.random() < 0.3
                case 2 | 3 | 4 | 5:
                    name = rng.choice([*CHOICES, "start", "start", "start"])
                    asked = {**asked, name: rng.choice(CHOICES[name])}
            raw = request(gate, asked)
            fresh = shown(await gate.raw(raw), origin)
            writer.write(raw)
            reply = await read_reply(reader)
            assert shown(reply, origin) == fresh
            statuses.add(reply.status)
            if reply.all(b"connection") or not reply.complete or reply.status in {400, 505}:
                await kept.__aexit__(None, None, None)
                kept = gate.open()
                reader, writer = await kept.__aenter__()
        await kept.__aexit__(None, None, None)
    assert {200, 401} <= statuses
