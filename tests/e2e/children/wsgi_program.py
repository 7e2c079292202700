"""A WSGI application whose client is made before the server forks its workers, and used there, too."""

import json
import os
from collections.abc import Callable, Iterable

import tokenferry

URL = os.environ["SANDBOX_URL"] + "/v1/messages"
BODY = {"model": "claude-opus-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "ahoy"}]}

client = tokenferry.httpx_client(headers={"anthropic-version": "2023-06-01"})
client.post(URL, json=BODY).raise_for_status()


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    status = client.post(URL, json=BODY).status_code
    start_response("200 OK", [("content-type", "application/json"), ("connection", "close")])
    return [json.dumps({"pid": os.getpid(), "status": status}).encode()]
