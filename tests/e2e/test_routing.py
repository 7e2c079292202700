"""The real Claude Code through a gateway that routes: two sandboxes stand for two vendors."""

import json
import os
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude, is_answered
from e2e.parties import COMMAND, SandboxProcess, Server, end, eventually, running, tokenferry, write_config
from e2e.recorder import Relay, closed_door, recording_relay
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

BIG: Final = "claude-sonnet-4-5"
SMALL: Final = "claude-haiku-4-5"
CONFIG: Final = """
[router]
providers = ["first"]
background = "errands"

[[providers]]
name = "first"
base_url = "{first}"

[[providers]]
name = "second"
base_url = "{second}"
passthrough = true

[[models]]
name = "errands"
display_name = "For errands"

[[models.mappings]]
provider = "second"
actual_model = "claude-vendor-small-1"
priority = 1

[[models.mappings]]
provider = "first"
actual_model = "claude-3-5-haiku"
priority = 2

[[router.rules]]
name = "research"
model = "errands"
headers = {{ x-team = "^research$" }}
"""


@pytest.fixture
def second(tmp_path: Path) -> Iterator[tuple[SandboxProcess, Server]]:
    folder = tmp_path / "second"
    folder.mkdir()
    with running("sandbox", folder) as server:
        yield SandboxProcess(server.url), server


@pytest.fixture
def first(home: Home, second: tuple[SandboxProcess, Server], tmp_path: Path) -> Iterator[SandboxProcess]:
    with running("sandbox", tmp_path) as server:
        write_config(home, CONFIG.format(first=server.url, second=second[0].url))
        sandbox = SandboxProcess(server.url)
        for name, provider, key in (("one", "first", sandbox.api_key()), ("two", "second", second[0].api_key())):
            outcome = tokenferry("account", "add", name, "--provider", provider, "--kind", "api-key", stdin=key)
            assert outcome.code == 0, outcome.err
        yield sandbox


@pytest.fixture
def relay(first: SandboxProcess, tmp_path: Path) -> Iterator[Relay]:
    with running("serve", tmp_path) as server, recording_relay(server.url) as relay:
        yield relay


@pytest.fixture
def key(relay: Relay) -> str:
    return tokenferry("token", "--gateway").out.strip()


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Claude]:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    with closed_door() as door:
        yield Claude(person, door.url)
    assert door.asked == []


def ask(claude: Claude, relay: Relay, key: str, model: str, **variables: str) -> None:
    given = {"ANTHROPIC_BASE_URL": relay.url, "ANTHROPIC_AUTH_TOKEN": key, **variables}
    outcome = end(claude.begin("-p", "hi", "--model", model, **{k: v for k, v in given.items() if v}))
    assert is_answered(outcome), outcome


def arrived(sandbox: SandboxProcess) -> list[dict[str, Any]]:
    return sandbox.requests("/v1/messages")


def test_background_goes_to_another_vendor_under_its_name_there_and_the_rest_stays(
    claude: Claude, relay: Relay, key: str, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    ask(claude, relay, key, BIG)
    assert {one["model"] for one in arrived(first)} == {BIG}
    assert arrived(second[0]) == []
    assert [one["body_sha256"] for one in arrived(first)] == [one.body_sha256 for one in relay.messages()]

    relay.passed.clear()
    ask(claude, relay, key, SMALL)
    routed = arrived(second[0])
    assert {(one["model"], one["status"]) for one in routed} == {("claude-vendor-small-1", 200)}
    sent = [one.body for one in relay.messages()]
    assert all(json.loads(body)["model"].startswith(SMALL) for body in sent)
    names = [json.loads(body)["model"].encode() for body in sent]
    expected = [
        sha256(body.replace(b'"model":"%b"' % name, b'"model":"claude-vendor-small-1"', 1)).hexdigest()
        for body, name in zip(sent, names, strict=True)
    ]
    assert [one["body_sha256"] for one in routed] == expected


def test_the_next_mapping_serves_when_the_first_vendor_is_gone(
    claude: Claude, relay: Relay, key: str, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    second[1].process.terminate()
    second[1].process.wait()
    ask(claude, relay, key, SMALL)
    assert {one["model"] for one in arrived(first)} == {"claude-3-5-haiku"}


def test_a_header_of_the_clients_choosing_routes_it_and_why_says_so(
    claude: Claude, relay: Relay, key: str, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    ask(claude, relay, key, BIG, ANTHROPIC_CUSTOM_HEADERS="x-team: research")
    assert arrived(first) == []
    assert {one["model"] for one in arrived(second[0])} == {"claude-vendor-small-1"}


def test_its_own_credential_goes_to_its_vendor_and_the_gateways_key_goes_nowhere(
    claude: Claude, relay: Relay, key: str, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    """Nothing of an account: the key that arrives is the client's."""
    own = second[0].api_key("alice")
    ask(
        claude,
        relay,
        "",
        SMALL,
        ANTHROPIC_API_KEY=own,
        ANTHROPIC_CUSTOM_HEADERS=f"x-tokenferry-key: {key}",
    )
    routed = arrived(second[0])
    assert {one["account"] for one in routed} == {"alice"}
    assert all(key not in json.dumps(one) for one in routed)
    assert not any(name.lower() == "x-tokenferry-key" for one in routed for name, _ in one["headers"])
    assert arrived(first) == []


def post(url: str, key: str, model: str) -> None:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(f"{url}/v1/messages", json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        assert answer.status == 200


def test_a_change_of_the_routes_counts_without_a_restart(
    relay: Relay, key: str, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    post(relay.url, key, SMALL)
    assert tokenferry("config", "set", "--unset", "router.background").code == 0
    before = len(arrived(second[0]))

    def is_taken_up() -> bool:
        post(relay.url, key, SMALL)
        return bool(arrived(first))

    eventually(is_taken_up)
    assert before == 1
    assert {one["model"] for one in arrived(first)} == {SMALL}


def test_a_gateway_of_a_programs_own_routes_too(
    claude: Claude, first: SandboxProcess, second: tuple[SandboxProcess, Server]
) -> None:
    """`tokenferry run`, and one account for everything, which no mapping leads away from."""
    variables = {"TOKENFERRY_HOME": os.environ["TOKENFERRY_HOME"]}
    for options, models in (((), {"claude-vendor-small-1"}), (("--account", "one"), {"claude-vendor-small-1"})):
        told = claude.begin_by((COMMAND, "run", *options, "--"), "-p", "hi", "--model", SMALL, **variables)
        assert is_answered(end(told))
        assert {one["model"] for one in arrived(second[0])} == models
    assert {one["model"] for one in arrived(first)} == {"claude-3-5-haiku"}


def test_mapped_names_are_listed_before_the_upstreams(relay: Relay, key: str) -> None:
    request = urllib.request.Request(
        f"{relay.url}/v1/models?limit=1000", headers={"x-api-key": key, "anthropic-version": "2023-06-01"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        listed = json.loads(answer.read())["data"]
    assert (listed[0]["id"], listed[0]["display_name"]) == ("errands", "For errands")
    assert len(listed) > 1
