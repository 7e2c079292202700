"""A program that sends through the gateway in its own process; its provider is the sandbox."""

import re
from contextlib import ExitStack
from typing import Any

import httpx2

import tokenferry
from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore

BODY: dict[str, Any] = {
    "model": "claude-opus-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "ahoy"}],
}
VERSION = {"anthropic-version": "2023-06-01"}


class Program:
    def __init__(self, home: Home, sandbox: Sandbox) -> None:
        self.home = home
        self.sandbox = sandbox
        self._stack = ExitStack()
        self.configure("")

    @property
    def url(self) -> str:
        return f"{self.sandbox.url}/v1/messages"

    def configure(self, text: str) -> None:
        """Declare the sandbox; `text` is what else its table and the file say."""
        self.home.config.touch(0o600)
        self.home.config.write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{self.sandbox.url}"\n{text}\n')

    def add_key(self, name: str, owner: str | None = None, provider: str = "sandbox") -> None:
        self.add(name, ApiKey(Secret(self.sandbox.api_key(owner or name))), provider)

    def add_login(self, name: str, owner: str, expires_in: int) -> None:
        found = self.sandbox.issue(owner, expires_in=expires_in)
        refresh = Secret(found["refresh_token"])
        self.add(name, OAuthToken(Secret(found["access_token"]), refresh, int(found["expires_at"])))

    def add(self, name: str, credential: Credential, provider: str = "sandbox") -> None:
        store = FileStore(self.home)
        created = len(store.names()) + 1
        machine = Broker.from_home(self.home, load(self.home.config)).machine
        with store.exclusive(name, 5):
            account = Account(name, provider, credential.kind, created_at=created)
            store.swap(name, None, Document(account, credential, machine=machine))

    def client(self, **options: Any) -> httpx2.Client:
        return self._stack.enter_context(tokenferry.httpx_client(**{"headers": VERSION, **options}))

    def post(self, client: httpx2.Client, **changes: Any) -> httpx2.Response:
        return client.post(self.url, json={**BODY, **changes})

    def served(self) -> list[str]:
        """The accounts whose requests reached the provider, in order."""
        return [each["account"] for each in self.sandbox.requests() if each["path"] == "/v1/messages"]

    def close(self) -> None:
        self._stack.close()


def normal(response: httpx2.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """An answer without what differs from one request to the next."""
    ours = ("x-tokenferry-request-id", "request-id", "date", "connection", "transfer-encoding", "content-length")
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in ours]
    own_id = response.headers.get("x-tokenferry-request-id", "-")
    body = response.content.replace(own_id.encode(), b"ID")
    if response.is_error:  # a wait in seconds, which the next request may have one less of
        headers = [(name, re.sub(r"\d+", "N", value)) for name, value in headers]
        body = re.sub(rb"\d+", b"N", body)
    return response.status_code, headers, body
