"""What `explain route` says is what the gateway does, whatever the accounts, providers, keys, rights and routes."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from admin.rig import Api, refused, running_api
from cli.harness import Outcome
from effort import effort
from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.credentials import ApiKey
from tokenferry.errors import UsageError
from tokenferry.gateway import Forwarder, UpstreamClients
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.pool import Pool, SendAttempt
from tokenferry.routing import BodyFacts, Router, scan
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import Cooldown, GatewayRegistration, Rights, Scope, State, local_key
from tokenferry.stores import Account

PROVIDERS = ("one", "two", "three")
ACCOUNTS = ("alice", "bob", "carol")
NAMES = ("m", "claude-haiku-1", "small", "big")
FOREVER = 4_000_000_000
MODEL = "claude-sonnet-4-5"


@dataclass(frozen=True)
class Case:
    """A home, and the request that comes with the key `guest`."""

    config: str
    accounts: tuple[tuple[str, str], ...]
    """Each with its provider."""
    rights: Rights
    limited: frozenset[str]
    model: str | None


def some(values: Sequence[str], most: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=most)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lines = ["[router]"]
    if draw(st.integers(0, 3)) == 0:
        lines.append(f'account = "{draw(st.sampled_from(ACCOUNTS))}"')
    if named := draw(some(PROVIDERS, 3)):
        lines.append(f"providers = {json.dumps(named)}")
    lines += ['background = "small"'] if draw(st.booleans()) else []
    for name in PROVIDERS:
        lines += ["[[providers]]", f'name = "{name}"', 'base_url = "http://127.0.0.1:9"']
        lines += ["enabled = false"] if draw(st.integers(0, 5)) == 0 else []
        lines += [f"accounts = {json.dumps(draw(some(ACCOUNTS)))}"] if draw(st.integers(0, 5)) == 0 else []
    for name in draw(some(("small", "big"))):
        lines += ["[[models]]", f'name = "{name}"']
        for at, provider in enumerate(draw(st.lists(st.sampled_from(PROVIDERS), min_size=1, max_size=2))):
            lines += ["[[models.mappings]]", f'provider = "{provider}"', f'actual_model = "{name}-{at}"']
    accounts = tuple((name, draw(st.sampled_from(PROVIDERS))) for name in draw(some(ACCOUNTS, 3)))
    rights = Rights(
        models=tuple(draw(some(NAMES))) if draw(st.integers(0, 3)) == 0 else (),
        providers=tuple(draw(some(PROVIDERS))),
        accounts=tuple(draw(some(ACCOUNTS))),
        pin=draw(st.none() | st.sampled_from(ACCOUNTS)) if draw(st.booleans()) else None,
    )
    return Case(
        "\n".join(lines), accounts, rights, frozenset(draw(some(ACCOUNTS))), draw(st.none() | st.sampled_from(NAMES))
    )


TWO_PROVIDERS = "\n".join(f'[[providers]]\nname = "{name}"\nbase_url = "http://127.0.0.1:9"' for name in PROVIDERS)


@settings(max_examples=effort(40), suppress_health_check=list(HealthCheck))
@given(cases())
@example(
    Case(TWO_PROVIDERS, (("alice", "one"), ("bob", "two")), Rights(providers=("two",)), frozenset(), "m"),
)
def test_the_dry_run_says_what_the_gateway_does(inside: Callable[..., Outcome], tmp_path: Path, case: Case) -> None:
    home = Home(Path(tempfile.mkdtemp(dir=tmp_path)))
    with patch.dict(os.environ, TOKENFERRY_HOME=str(home.path)):
        try:
            prepare(home, case)
        except UsageError:  # rights that contradict each other
            return
        wanted = () if case.model is None else ("--model", case.model)
        told = inside("explain", "route", "--key", "guest", "--json", *wanted)
        done = by_gateway(home, case)
    if isinstance(done, GatewayError):
        (refused,) = told.json
        assert (refused["status"], refused["refused"]) == (done.status, done.message)
        return
    assert told.code == 0, told.err
    assert [(one["provider"], one["model"] or "") for one in told.json] == done["targets"]
    assert next((one["account"] for one in told.json if one["account"]), None) == done["account"]


def prepare(home: Home, case: Case) -> None:
    home.config.write_text(case.config)
    home.config.chmod(0o600)
    broker = Broker.from_home(home)
    for at, (name, provider) in enumerate(case.accounts):
        broker.add(Account(name, provider, "api-key", created_at=at + 1), ApiKey(Secret(f"key-of-{name}")))
    with State(home.state) as state:
        state.keys.create("guest", rights=case.rights)
        for name in case.limited:
            state.cooldowns.put(Cooldown(Scope("account", name), "window", "answer", FOREVER, "It is limited."))


def by_gateway(home: Home, case: Case) -> dict[str, Any] | GatewayError:
    """What it would refuse the request with, or the targets and the account that is asked first."""
    config = load(home.config)
    broker = Broker.from_home(home, config)
    pool = Pool(config.pool)
    with State(home.state) as state:
        pool.cooldowns.adopt(state.cooldowns.list(), state.organizations.all(), 0)
        router = Router(config.router, config.models, config.providers)
        forwarder = Forwarder(
            source=broker,
            settings=config.router,
            keys=state.keys,
            upstreams=UpstreamClients(),
            pool=pool,
            router=router,
        )
        facts = scan([json.dumps({} if case.model is None else {"model": case.model}).encode()])
        assert isinstance(facts, BodyFacts)
        head = RequestHead([(b"x-api-key", b"tfk_x")])
        try:
            plan = forwarder.resolve(facts, head, [], key := state.keys.get("guest"))
        except GatewayError as error:
            return error
        finally:
            broker.drain(0)
        failover, _ = forwarder.start(plan, head, [], key=key, side="", tokens=0)
        step = next(failover, None)
        failover.close()
    account = step.account.name if isinstance(step, SendAttempt) and not step.is_probe else None
    return {"targets": [(target.group.provider, target.model) for target in plan.targets], "account": account}


@pytest.fixture
def gateway(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Api]:
    """A gateway in this process whose cooldowns and sessions are in its memory alone, on record as the home's."""
    with running_api(home, tokenferry_sandbox.url, config='\n[router]\nproviders = ["sandbox"]\n') as api:
        for at, name in enumerate(("alice", "bob")):
            key = ApiKey(Secret(tokenferry_sandbox.api_key(name)))
            api.broker.add(Account(name, "sandbox", "api-key", created_at=at + 1), key)
        local_key(home, api.state)
        registration = GatewayRegistration(home, url=api.url)
        yield api
        registration.end()


def send(gateway: Api, session: str) -> int:
    """Send a message in a session, as this machine's clients do; give the status."""
    message = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "ahoy"}]}
    key = local_key(gateway.home, gateway.state).reveal()
    headers = {"x-api-key": key, "x-claude-code-session-id": session, "anthropic-version": "2023-06-01"}
    return httpx2.post(f"{gateway.url}/v1/messages", json=message, headers=headers, trust_env=False).status_code


def test_what_only_a_running_gateways_memory_knows_shows_in_the_dry_run(
    gateway: Api, tokenferry_sandbox: Sandbox, inside: Callable[..., Outcome]
) -> None:
    tokenferry_sandbox.settings("alice", limits={"requests": {"remaining": 0, "reset_in": 3600}})
    assert send(gateway, "s") == 200
    assert not gateway.state.cooldowns.list()
    (told,) = inside("explain", "route", "--model", MODEL, "--json").json
    assert (told["account"], told["asked"]) == ("bob", f"the running gateway (pid {os.getpid()})")
    assert [(one["account"], one["cause"]) for one in told["passed_over"]] == [("alice", "rate-limit")]
    (told,) = inside("explain", "route", "--session", "s", "--json").json
    assert told["why"] == "its session uses this account"
    assert inside("explain", "route", "--body", os.devnull).code == 2


def test_where_a_request_needs_a_model_the_option_is_named(home: Home, inside: Callable[..., Outcome]) -> None:
    home.config.write_text(
        '[[models]]\nname = "glm"\nmappings = [{ provider = "sandbox", actual_model = "claude-a" }]\n'
        '[router]\nbackground = "glm"\n'
    )
    outcome = inside("explain", "route")
    assert (outcome.code, "explain route --model MODEL" in outcome.err) == (1, True)


def test_without_a_gateway_the_records_are_asked(gateway: Api, inside: Callable[..., Outcome]) -> None:
    state = gateway.state
    state.cooldowns.put(Cooldown(Scope("account", "alice"), "window", "answer", FOREVER, "It is limited."))
    assert inside("explain", "route", "--json").json[0]["account"] == "alice"  # the gateway doesn't read it
    for record in gateway.home.gateways.iterdir():
        record.unlink()
    (told,) = inside("explain", "route", "--json").json
    assert (told["account"], told["asked"]) == ("bob", f"the records in {gateway.home.path}")


def test_a_client_key_may_ask_for_itself_alone_and_sees_no_account_that_it_may_not_use(gateway: Api) -> None:
    def ask(key: Secret, name: str | None = None, body: str = "{}") -> httpx2.Response:
        return gateway.post("/api/route", {"body": body, "key": name}, key=key.reveal())

    keys = gateway.state.keys
    _, guest = keys.create("guest", rights=Rights(accounts=("bob",)))
    _, viewer = keys.create("eyes", role="viewer")
    _, metrics = keys.create("numbers", role="metrics")
    for answer in (ask(guest), ask(guest, "guest")):
        (target,) = answer.json()["targets"]
        assert (target["account"], target["passed_over"]) == ("bob", [])
    assert "only what its own requests get" in refused(ask(guest, "local"), 403)
    for asker in (viewer, Secret(gateway.admin), local_key(gateway.home, gateway.state)):
        (target,) = ask(asker, "guest").json()["targets"]
        assert (target["account"], target["passed_over"][0]["account"]) == ("bob", "alice")
        assert ask(asker).json()["targets"][0]["account"] == "alice"
        refused(ask(asker, "nobody"), 404)
    refused(ask(viewer, body="{"), 400)
    refused(ask(metrics), 403)
