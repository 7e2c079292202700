"""Whatever becomes of a grant, its tokens are seen nowhere but in the documents, the journal and the requests."""

import base64
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from msgspec.structs import replace

import tokenferry
from leaks import leaks, shows
from refresh.rig import NAME, PATIENCE, PROVIDERS, Rig, answer, document, put, sandbox_login, sandbox_providers, token
from tokenferry.broker import Broker
from tokenferry.credentials import FederatedToken, Federation
from tokenferry.errors import TokenferryError
from tokenferry.oauth import NotSent, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.refresh import Flight, RefreshAttempt, RefreshFailure, RefreshRequest, Result, WarmCredential
from tokenferry.refresh import _flow as flow
from tokenferry.sandbox import Sandbox
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings
from tokenferry.stores import Disk, FileStore, ProcessIdentity, Seal
from tokenferry.stores._sealed import SealedDocument


def canary(name: str) -> str:
    return f"{name}-canary-{base64.b32encode(os.urandom(40)).decode().rstrip('=')}"


ACCESS, REFRESH, NEW_ACCESS, NEW_REFRESH = CANARIES = tuple(
    canary(name) for name in ("access", "refresh", "newaccess", "newrefresh")
)
CREDENTIAL = token(secret=Secret(ACCESS), refresh=Secret(REFRESH))
TOKENS = {"access_token": NEW_ACCESS, "refresh_token": NEW_REFRESH}
ECHO = f"the token {REFRESH} was issued with {ACCESS}"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that anybody logs at any level, formatted with its traceback, and the reprs of its arguments."""

    class Handler(logging.StreamHandler[io.StringIO]):
        def emit(self, record: logging.LogRecord) -> None:
            self.stream.write(f"{record.args!r} {record.__dict__!r}\n")
            super().emit(record)

    handler, root = Handler(io.StringIO()), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.stream
    root.setLevel(level)
    root.removeHandler(handler)


def granted(**extra: Any) -> TokenResponse:
    return TokenResponse(200, {}, json.dumps(TOKENS | extra).encode())


def raising(*_: Any) -> Any:
    raise ZeroDivisionError


OUTCOMES: dict[str, Any] = {
    "granted": granted(expires_in=3600),
    "granted with an odd lifetime": granted(expires_in=-1),
    "granted with strange scopes": granted(scope=[{}, "x"], account="a", organization=[]),
    "dead": answer(400, error="invalid_grant", error_description=ECHO),
    "dead, in the vendor's envelope": answer(401, error={"type": "invalid_grant", "message": ECHO}),
    "another error": answer(400, error="invalid_client", error_description=ECHO),
    "an error with the token as its code": answer(400, error=ECHO),
    "server error with the token in its text": TokenResponse(503, {"retry-after": REFRESH}, ECHO.encode()),
    "unreadable": TokenResponse(200, {}, f'{{"access_token": "{NEW_ACCESS}", "refresh_token": "{NEW_REFRESH}'.encode()),
    "no access token": answer(200, refresh_token=NEW_REFRESH),
    "a token that is no string": answer(200, access_token=[NEW_ACCESS], refresh_token=NEW_REFRESH),
    "a token with a line break": answer(200, access_token=f"{NEW_ACCESS}\r\nx: y", refresh_token=NEW_REFRESH),
    "not sent": NotSent("no route"),
    "lost": TokenResponseLost("cut"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_no_outcome_shows_a_token(rig: Rig, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(flow, "_SIBLING_WAIT", 0.0)
    rig.put(CREDENTIAL)
    rig.endpoint.script.extend([OUTCOMES[name]] * 2)
    broker = rig.broker()
    calls: list[Callable[[], Any]] = [lambda: broker.resolve(NAME), lambda: broker.refresh(NAME)]
    for error in filter(None, [error_of(call) for call in calls]):
        assert not leaks(error, *CANARIES)
        assert not shows(rendered(error), *CANARIES)
    broker.invalidate(NAME, Secret(ACCESS))
    seen = [log.getvalue(), repr(broker.statistics(NAME)), repr(broker.journal.failure(NAME)), names(rig.home)]
    assert not shows("\n".join(seen), *CANARIES)


@pytest.mark.parametrize("name", [*OUTCOMES, "a defect"])
def test_no_outcome_of_a_workloads_exchange_shows_a_token(
    rig: Rig, log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nor the identity token, whether it is in a file or a variable, or both are broken."""
    identity = canary("identity")
    path = tmp_path / "identity"
    path.write_text(identity)
    monkeypatch.setenv("TF_IDENTITY", identity)
    outcome = OUTCOMES.get(name)
    if isinstance(outcome, TokenResponse):
        outcome = replace(outcome, body=outcome.body.replace(REFRESH.encode(), identity.encode()))
    send: Any = raising if outcome is None else lambda *_: outcome
    for federation in (Federation(str(path)), Federation(variable="TF_IDENTITY")):
        put(rig.store, document(FederatedToken.of(CREDENTIAL, federation), kind="federated"))
        broker = rig.broker(send=send)
        errors = [error_of(partial(call, NAME)) for call in (broker.resolve, broker.refresh)]
        path.write_text(f"{identity} {identity}")
        errors.append(error_of(partial(broker.refresh, NAME)))
        path.write_text(identity)
        for error in filter(None, errors):
            assert not leaks(error, identity, *CANARIES)
            assert not shows(rendered(error), identity, *CANARIES)
        document_text = (rig.home.accounts / f"{NAME}.json").read_text()
        assert not shows(document_text, identity, NEW_REFRESH)
        seen = [log.getvalue(), repr(broker.statistics(NAME)), repr(broker.journal.failure(NAME)), names(rig.home)]
        assert not shows("\n".join(seen), identity, *CANARIES)
        broker.journal.forget(NAME)


@pytest.fixture
def seal_key(rig: Rig, tmp_path: Path) -> str:
    """A sealed home; the key is in a file elsewhere, and in memory."""
    path = tmp_path / "stick" / "key"
    seal = Seal.of(rig.home)
    key = seal.new_key(KeyPlace(path))
    seal.mark(Marker(((key.id, KeyPlace(path)),)))
    return key.secret.reveal()


@pytest.mark.parametrize("name", OUTCOMES)
def test_no_outcome_in_a_sealed_home_shows_a_token_or_its_key(
    rig: Rig, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, seal_key: str, name: str
) -> None:
    test_no_outcome_shows_a_token(rig, log, monkeypatch, name)
    assert not shows(log.getvalue(), seal_key)
    for folder in (rig.home.accounts, rig.home.journal):
        for path in folder.iterdir():
            assert not shows(path.read_text("latin-1"), seal_key, *CANARIES)


@pytest.mark.parametrize("operation", ["send", "write", "fsync", "rename", "sync_folder"])
def test_no_defect_below_shows_the_sealing_key(rig: Rig, log: io.StringIO, seal_key: str, operation: str) -> None:
    rig.put(CREDENTIAL)
    rig.endpoint.script.append(granted(expires_in=3600))
    changes: dict[str, Any] = {"send": raising} if operation == "send" else {}
    if operation != "send":
        changes["store"] = FileStore(rig.home, disk=BrokenDisk(operation), seal=Seal.of(rig.home))
    with pytest.raises(ZeroDivisionError) as caught:
        rig.broker(**changes).resolve(NAME)
    assert not leaks(caught.value, seal_key, *CANARIES)
    assert not shows(log.getvalue(), seal_key, *CANARIES)


def test_no_key_file_or_document_that_is_broken_shows_the_sealing_key(rig: Rig, seal_key: str, tmp_path: Path) -> None:
    rig.put(CREDENTIAL)
    path, document_path = tmp_path / "stick" / "key", rig.store.path(NAME)
    whole = document_path.read_bytes()
    for text, raw in (
        (f"{seal_key}x\n", whole),
        (f"# {seal_key}\n", whole),
        (SealKey.new().secret.reveal() + "\n", whole),
        (f"{seal_key}\n", whole.replace(b'"generation": 1', b'"generation": 9')),
    ):
        path.write_text(text)
        document_path.write_bytes(raw)
        fresh = Seal(rig.home)
        with pytest.raises(TokenferryError) as caught:
            rig.broker(store=FileStore(rig.home, seal=fresh)).resolve(NAME)
        assert not leaks(caught.value, seal_key, *CANARIES)
        assert not shows(rendered(caught.value), seal_key, *CANARIES)
        assert seal_key not in f"{fresh!r} {fresh.keys!r}"


def error_of(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except (TokenferryError, anthropic.AnthropicError, ZeroDivisionError) as error:
        return error
    return None


def rendered(error: BaseException) -> str:
    """As an error tracker renders it, without the frames of the test."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    for part in (report, report.__cause__, report.__context__):
        if part is not None:
            frames = [frame for frame in part.stack if "/tests/" not in frame.filename]
            part.stack = traceback.StackSummary.from_list(frames)
    return "".join(report.format())


def names(home: Home) -> str:
    return "\n".join(str(path) for path in home.path.rglob("*"))


class BrokenDisk(Disk):
    """Has a defect in one operation, of the kind that no code expects."""

    def __init__(self, operation: str) -> None:
        setattr(self, operation, raising)


@pytest.mark.parametrize("operation", ["send", "write", "fsync", "rename", "sync_folder"])
def test_no_defect_below_shows_a_token_in_its_traceback(rig: Rig, log: io.StringIO, operation: str) -> None:
    rig.put(CREDENTIAL)
    rig.endpoint.script.append(granted(expires_in=3600))
    changes: dict[str, Any] = {"send": raising} if operation == "send" else {}
    if operation != "send":
        changes["store"] = FileStore(rig.home, disk=BrokenDisk(operation))
    with pytest.raises(ZeroDivisionError) as caught:
        rig.broker(**changes).resolve(NAME)
    assert not leaks(caught.value, *CANARIES)
    assert not shows(log.getvalue(), *CANARIES)


def test_no_broken_file_shows_what_is_in_it(rig: Rig, log: io.StringIO) -> None:
    rig.put(CREDENTIAL)
    path = rig.store.path(NAME)
    whole = path.read_bytes()
    broker = rig.broker()
    for raw in (
        whole[:-20],
        whole.replace(b'"kind"', b'"king"'),
        whole.replace(b'"oauth"', f'"{ACCESS}"'.encode()),
        whole.replace(b'"expires_at": ', f'"expires_at": "{REFRESH}", "was": '.encode()),
        whole.replace(b'"provider": "fake"', f'"provider": "{ACCESS}"'.encode())[:-5],
        json.dumps([ACCESS]).encode(),
    ):
        assert raw != whole
        path.write_bytes(raw)
        with pytest.raises(TokenferryError) as caught:
            broker.resolve(NAME)
        assert not leaks(caught.value, *CANARIES)
    path.write_bytes(whole)
    rig.home.journal.mkdir(mode=0o700, exist_ok=True)
    attempt = rig.home.journal / f"{NAME}.attempt"
    attempt.write_bytes(f'O{{"id": "{REFRESH}", "token": ["{ACCESS}"], "at": "{REFRESH}"}}'.encode())
    attempt.chmod(0o600)
    with pytest.raises(TokenferryError) as caught:
        broker.resolve(NAME)
    assert not leaks(caught.value, *CANARIES)
    assert not shows(log.getvalue(), *CANARIES)


def test_no_refusal_shows_a_token(rig: Rig) -> None:
    rig.put(CREDENTIAL)
    subscription = {"fake": replace(PROVIDERS["fake"], subscription=True)}
    put(rig.store, replace(document(CREDENTIAL, "copied"), machine="another"))
    put(rig.store, document(CREDENTIAL, "foreign", owner="external"))
    put(rig.store, document(CREDENTIAL, "undeclared", provider="nowhere"))
    refusing = [rig.broker(providers=subscription, policy=PolicySettings("claude-code-only")), *[rig.broker()] * 3]
    for broker, name in zip(refusing, [NAME, "copied", "foreign", "undeclared"], strict=True):
        with pytest.raises(TokenferryError) as caught:
            broker.resolve(name)
        assert not leaks(caught.value, *CANARIES)


def test_no_object_shows_a_token_or_lets_itself_be_pickled_with_one(rig: Rig) -> None:
    rig.put(CREDENTIAL)
    broker = rig.broker()
    whole = document(CREDENTIAL)
    attempt = RefreshAttempt.begin(Secret(REFRESH).sha256, 0, ProcessIdentity.own(), 1)
    job = RefreshRequest(NAME, refused=Secret(ACCESS).sha256)
    things: list[object] = [
        broker,
        broker.book,
        broker.listing(),
        broker.statistics(NAME),
        whole,
        whole.account,
        CREDENTIAL,
        CREDENTIAL.secret,
        CREDENTIAL.to_json(),
        SealedDocument.seal(whole, SealKey.new()),
        replace(attempt, answer=CREDENTIAL),
        RefreshFailure("failed", attempt.token, 0.0, "reason"),
        Flight(job),
        Result(whole, granted=True),
        WarmCredential(CREDENTIAL, 0.0),
        TokenRequest("https://auth.invalid", (), REFRESH.encode()),
        granted(),
        tokenferry.auth(NAME, broker=broker),
        tokenferry.anthropic_credentials(NAME, broker=broker),
        tokenferry.openai_api_key(NAME, broker=broker),
    ]
    for thing in things:
        assert not shows(f"{thing!r} {thing!s} {thing:}", *CANARIES), type(thing)
    revealed_on_purpose = (dict, TokenRequest, TokenResponse)
    for thing in things:
        try:
            pickled = pickle.dumps(thing)
        except (TypeError, AttributeError, pickle.PicklingError):
            continue
        if not isinstance(thing, revealed_on_purpose):
            assert not shows(pickled.decode("latin-1"), *CANARIES), type(thing)


FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "lost": {"kind": "lose_answer"},
    "lost in the middle": {"kind": "lose_answer", "bytes": 60},
    "unreadable": {"kind": "unreadable", "body": "<html>", "after_work": True},
    "busy": {"kind": "status", "status": 529},
    "cut before": {"kind": "cut_before"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_library_below_logs_a_token(tokenferry_sandbox: Sandbox, home: Home, log: io.StringIO, name: str) -> None:
    """With the real sender, httpx2 and the anthropic SDK, all of them at DEBUG."""
    store = FileStore(home)
    old = sandbox_login(store, tokenferry_sandbox)
    if FAULTS[name]:
        tokenferry_sandbox.fault(path="/v1/oauth/token", **FAULTS[name])
    broker = Broker(home=home, providers=sandbox_providers(tokenferry_sandbox))
    url, headers = f"{tokenferry_sandbox.url}/v1/messages", {"anthropic-version": "2023-06-01"}
    body: Any = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    credentials = tokenferry.anthropic_credentials("alice", broker=broker)
    with (
        httpx2.Client(auth=tokenferry.auth("alice", broker=broker), headers=headers, trust_env=False) as client,
        anthropic.Anthropic(base_url=tokenferry_sandbox.url, credentials=credentials, max_retries=0) as sdk,
    ):
        errors = [error_of(lambda: client.post(url, json=body)), error_of(lambda: sdk.messages.create(**body))]
    assert broker.drain(PATIENCE)
    new: Any = store.read("alice").credential
    values = [secret.reveal() for secret in (old.secret, old.refresh, new.secret, new.refresh) if secret]
    assert not shows(log.getvalue(), *values)
    for error in filter(None, errors):
        assert not leaks(error, *values)


def test_no_token_is_in_the_command_line_or_the_environment_of_a_process_that_resolves(
    tokenferry_sandbox: Sandbox, home: Home
) -> None:
    store = FileStore(home)
    old = sandbox_login(store, tokenferry_sandbox)
    script = (
        "import os, subprocess, sys\n"
        "from msgspec.structs import replace\n"
        "from tokenferry.broker import Broker\n"
        "from tokenferry.providers import builtin_providers\n"
        f"sandbox = replace(builtin_providers()['sandbox'], base_url={tokenferry_sandbox.url!r})\n"
        "broker = Broker(providers={'sandbox': sandbox})\n"
        "broker.resolve('alice')\n"
        'show = \'import os; print(open("/proc/self/cmdline").read(), open("/proc/self/environ").read())\'\n'
        "print(open('/proc/self/cmdline').read(), open('/proc/self/environ').read(), dict(os.environ))\n"
        "print(subprocess.run([sys.executable, '-c', show], capture_output=True, text=True, check=True).stdout)\n"
        "print(broker, vars(broker), repr(broker._engine), broker.statistics('alice').grants)\n"
    )
    environment = {**os.environ, "TOKENFERRY_HOME": str(home.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    new: Any = store.read("alice").credential
    assert new.secret != old.secret
    values = [secret.reveal() for secret in (old.secret, old.refresh, new.secret, new.refresh) if secret]
    assert done.stdout.rstrip().endswith(" 1")
    assert not shows(done.stdout + done.stderr, *values)
    assert not shows(names(home), *values)
