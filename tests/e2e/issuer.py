"""The independent authorization server: oidc-provider in Node.js, told what to do by its side door."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.parties import MODULES, add_login, fetch, lacking, program, write_config
from tokenferry.settings import Home

SERVER: Final = Path(__file__).with_name("oidc") / "server.mjs"


@dataclass(frozen=True)
class Issuer:
    url: str

    def login(self, account: str) -> dict[str, Any]:
        """A login whose access token has expired."""
        login: dict[str, Any] = fetch(f"{self.url}/_e2e/login", {"account": account})
        return login

    def add(self, home: Home, account: str) -> dict[str, Any]:
        """Put such a login into a home, under the account's name."""
        login = self.login(account)
        add_login(home, account, "idp", login)
        return login

    def settings(self, **given: float) -> None:
        """`lifetime` of access tokens in seconds; mean pauses `before` and `after` the work in milliseconds."""
        fetch(f"{self.url}/_e2e/settings", given)

    def hold(self, when: str | None) -> None:
        """Keep refreshes waiting `before` or `after` the work; None lets them go on."""
        fetch(f"{self.url}/_e2e/hold", {"when": when})

    def presentations(self) -> list[dict[str, Any]]:
        """Every refresh that arrived: its token and what it gave (sha256), account, outcome, and how far it is."""
        found: list[dict[str, Any]] = fetch(f"{self.url}/_e2e/figures")["presentations"]
        return found

    def knows(self, account: str, token: str) -> bool:
        """Whether it granted this account an access token with this sha256."""
        return any(one.get("account") == account and one.get("granted") == token for one in self.presentations())

    def figures(self, account: str) -> dict[str, int]:
        """How many `grants` there were, and how many `reuses` of a refresh token that had given some."""
        figures: dict[str, int] = fetch(f"{self.url}/_e2e/figures")["accounts"].get(account, {"grants": 0, "reuses": 0})
        return figures

    def configure(self, home: Home) -> None:
        write_config(
            home,
            f'[[providers]]\nname = "idp"\nbase_url = "{self.url}"\nauth_type = "oauth"\n\n'
            f'[providers.oauth]\ntoken_endpoint = "{self.url}/token"\nclient_id = "e2e-client"\ntoken_body = "form"\n',
        )


@contextlib.contextmanager
def running_issuer(folder: Path, server: Path = SERVER) -> Iterator[Issuer]:
    node = program("node")
    if not (MODULES / "oidc-provider").is_dir():
        lacking("the npm package oidc-provider")
    log = folder / "issuer.log"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [node, str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Issuer(json.loads(line)["url"])
        finally:
            process.kill()
