from typing import Any

from refresh.rig import PATIENCE, put, sandbox_login, sandbox_providers
from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore

BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
VERSION = {"anthropic-version": "2023-06-01"}


class Rig:
    def __init__(self, home: Home, sandbox: Sandbox) -> None:
        self.home = home
        self.sandbox = sandbox
        self.store = FileStore(home)
        self.first = self.login(expires_in=28_800)
        self.broker = Broker(home=home, providers=sandbox_providers(sandbox))

    @property
    def url(self) -> str:
        return f"{self.sandbox.url}/v1/messages"

    def login(self, expires_in: int, account: str = "alice") -> OAuthToken:
        return sandbox_login(self.store, self.sandbox, account, expires_in=expires_in)

    def add_key(self, name: str = "key") -> str:
        key = self.sandbox.api_key("alice")
        put(self.store, Document(Account(name, "sandbox", "api-key"), ApiKey(Secret(key))))
        return key

    def refreshes(self) -> int:
        return int(self.sandbox.counters()["accounts"]["alice"]["refreshes"])

    def messages(self) -> list[dict[str, Any]]:
        """What reached the API, with the headers by name, none of which came twice."""
        found = [each for each in self.sandbox.requests() if each["path"] == "/v1/messages"]
        for each in found:
            headers = dict(each["headers"])
            assert len(headers) == len(each["headers"])
            each["headers"] = headers
        return found

    def close(self) -> None:
        assert self.broker.drain(PATIENCE)
