"""Devices and workloads at an authorization server that isn't ours, and many processes at one workload's token."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urljoin

import httpx2
import pytest

from e2e.chromium import chromium
from e2e.conftest import Tell
from e2e.issuer import running_issuer
from e2e.parties import CHILDREN, COMMAND, PATIENCE, SandboxProcess, begin, end, tokenferry
from e2e.test_login import FILL, PAGES, SECRET, declare, is_dead, said, stored, submit
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ADDRESS: Final = re.compile(r"http://\S+")
FORM: Final = re.compile(r'<form[^>]*action="([^"]+)"')
HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
PRESS: Final = """() => { setTimeout(() => document.querySelector('button[autofocus], [type=submit]').click()); }"""
PROCESSES: Final = 16
THREADS: Final = 4


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[str]:
    with running_issuer(tmp_path, PAGES) as issuer:
        yield issuer.url


@pytest.fixture
def platform(issuer: str) -> Callable[..., str]:
    """Gives identity tokens that the issuer trusts."""

    def give(subject: str = "build", left: int = 3600) -> str:
        return httpx2.get(f"{issuer}/_e2e/identity/{subject}", params={"left": left}, timeout=PATIENCE).text

    return give


def answer(address: str, account: str, **last: str) -> httpx2.Response:
    """What a person does with a code's address: confirms it, logs in, agrees."""
    given: dict[str, str] = {"prompt": "login", "login": account, "password": "any"}
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        page = browser.get(address)
        for _ in range(6):
            found = FORM.search(page.text)
            if found is None:
                break
            hidden = dict(HIDDEN.findall(page.text))
            if "xsrf" in hidden:
                page = browser.post(urljoin(str(page.url), found[1]), data=hidden | last)
                continue
            page = browser.post(urljoin(str(page.url), found[1]), data=hidden | given)
            given = {"prompt": "consent"}
        return page


def test_a_device_is_logged_in_by_a_real_browser_elsewhere(home: Home, issuer: str, tmp_path: Path) -> None:
    """The public client, known by its issuer alone."""
    declare(home, issuer, "e2e-public")
    process = begin(COMMAND, "login", "tv", "--provider", "idp", "--device")
    direct = ADDRESS.findall(said(process))[-1]
    with chromium(tmp_path, names="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        browser.open(direct)
        seen = str(browser.run("() => document.body.innerText"))
        browser.picture(tmp_path / "code.png")
        for function, argument in ((PRESS, None), (FILL, {"login": "carol", "password": "any"}), (FILL, {})):
            submit(browser, function, argument)
            seen += str(browser.run("() => document.body.innerText"))
    assert "Sign-in Success" in seen
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    credential = stored(home, "tv")["credential"]
    assert credential["email"] == "carol@mail.example"
    assert tokenferry("refresh", "tv").code == 0
    refresh_token = stored(home, "tv")["credential"]["refresh_token"]
    assert tokenferry("logout", "tv").code == 0
    assert is_dead(issuer, refresh_token, fields={"client_id": "e2e-public"})


def test_a_device_with_a_client_secret_presents_it_as_declared(home: Home, issuer: str) -> None:
    file = home.path / "client.secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    declare(home, issuer, "e2e-confidential", f'client_secret_file = "{file}"\nclient_auth = "basic"')
    process = begin(COMMAND, "login", "--provider", "idp", "--device")
    page = answer(ADDRESS.findall(said(process))[-1], "bob")
    assert "Sign-in Success" in page.text
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    assert SECRET not in outcome.err
    refresh_token = stored(home, "bob@mail.example")["credential"]["refresh_token"]
    assert tokenferry("account", "remove", "bob@mail.example", "--yes").code == 0
    assert is_dead(issuer, refresh_token, auth=("e2e-confidential", quote_plus(SECRET)))


def test_a_device_login_that_the_person_denies_is_reported(home: Home, issuer: str) -> None:
    declare(home, issuer, "e2e-public")
    process = begin(COMMAND, "login", "--provider", "idp", "--device")
    answer(ADDRESS.findall(said(process))[-1], "bob", abort="yes")
    outcome = end(process)
    assert outcome.code == 1
    assert "the login was refused (access_denied" in outcome.err


@pytest.mark.parametrize("client", ["e2e-public", "e2e-confidential"])
def test_a_workloads_identity_is_exchanged_at_a_standard_server(
    home: Home, issuer: str, tmp_path: Path, platform: Callable[..., str], client: str
) -> None:
    """The grant was registered with the library, which reads form and client; a real signature is verified."""
    more = ""
    if client == "e2e-confidential":
        secret = home.path / "client.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        more = f'client_secret_file = "{secret}"\nclient_auth = "basic"'
    declare(home, issuer, client, more)
    identity = tmp_path / "identity-token"
    identity.write_text(platform())
    add = ("account", "add", "ci", "--provider", "idp", "--workload-identity", "--identity-token-file", str(identity))
    added = tokenferry(*add)
    assert added.code == 0, added.err
    first = stored(home, "ci")["credential"]
    token = tokenferry("token", "ci").out.strip()
    me = httpx2.get(f"{issuer}/me", headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE)
    assert (me.status_code, me.json()["sub"]) == (200, "build")
    identity.write_text(platform(left=-5))
    refused = tokenferry("refresh", "ci")
    assert (refused.code, "HTTP 400 (invalid_grant" in refused.err) == (6, True)
    header, claims, _ = platform().split(".")
    identity.write_text(f"{header}.{claims}.{base64.urlsafe_b64encode(bytes(64)).decode().rstrip('=')}")
    assert tokenferry("refresh", "ci").code == 6
    identity.write_text(platform())
    assert tokenferry("refresh", "ci").code == 0
    assert stored(home, "ci")["credential"]["access_token"] != first["access_token"]


def test_many_processes_make_one_exchange(home: Home, sandbox: SandboxProcess, tmp_path: Path, tell: Tell) -> None:
    identity = tmp_path / "identity-token"
    identity.write_text(sandbox.identity_token("carol"))
    given = ("--federation", "federation_rule_id=rule", "--federation", "organization_id=org")
    add = ("account", "add", "ci", "--provider", "sandbox", "--workload-identity")
    assert tokenferry(*add, "--identity-token-file", str(identity), *given).code == 0
    path = home.accounts / "ci.json"
    document: dict[str, Any] = json.loads(path.read_text())
    document["credential"]["expires_at"] -= 1_000_000
    path.write_text(json.dumps(document))
    before = sandbox.counters("carol")["exchanges"]
    gate, opener = os.pipe()
    with ExitStack() as stack:
        processes = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                [sys.executable, str(CHILDREN / "herd.py"), "ci", str(THREADS)],
                stdin=gate,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ.copy(),
            )
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        os.close(gate)
        os.close(opener)
        outcomes = [end(process) for process in processes]
    assert [outcome.err for outcome in outcomes if outcome.code] == []
    tokens = [token for outcome in outcomes for token in json.loads(outcome.out)["given"]]
    exchanges = sandbox.counters("carol")["exchanges"] - before
    tell(
        f"{PROCESSES} processes x {THREADS} threads at a workload's token: {len(tokens)} resolves, {exchanges} exchange"
    )
    assert (len(tokens), len(set(tokens)), exchanges) == (PROCESSES * THREADS, 1, 1)
