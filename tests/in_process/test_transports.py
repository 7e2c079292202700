import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import tokenferry
from effort import FULL
from in_process.rig import BODY, VERSION, Program, normal
from refresh.rig import wait_for
from tokenferry.config import load
from tokenferry.credentials import ExchangedToken
from tokenferry.errors import PolicyRefused, UsageError
from tokenferry.secret import Secret
from tokenferry.serve import PrivateGateway
from tokenferry.state import State

ASKED: dict[str, Any] = {**BODY, "messages": [{"role": "user", "content": "one two three " * 40}]}
TASKS = 1000 if FULL else 200
LIMITED = {"requests": {"limit": 50, "remaining": 0, "reset_in": 3600}}


def test_a_request_is_served_by_an_account_of_the_home(program: Program) -> None:
    response = program.post(program.client())
    assert response.status_code == 200
    assert "ahoy" in response.json()["content"][0]["text"]
    assert response.headers["x-tokenferry-request-id"].startswith("tf_")
    assert program.served() == ["dave"]


def test_a_limited_account_is_followed_by_the_next_without_an_error(program: Program) -> None:
    client = program.client()
    assert program.post(client).status_code == 200
    program.sandbox.settings("dave", limits=LIMITED)
    assert [program.post(client).status_code for _ in range(3)] == [200] * 3
    assert program.served() == ["dave", "dave", "carol", "carol", "carol"]


def test_the_programs_own_credentials_cookies_and_keys_never_leave(program: Program) -> None:
    own = {"authorization": "Bearer mine", "x-api-key": "mine", "api-key": "mine", "cookie": "a=mine"}
    client = program.client(cookies={"b": "mine"})
    response = client.post(program.url, params={"key": "mine", "beta": "true"}, json=BODY, headers=own)
    assert response.status_code == 200
    (sent,) = program.sandbox.requests(last=1)
    assert sent["query"] == "beta=true"
    headers = dict(sent["headers"])
    assert not headers.keys() & {"authorization", "api-key", "cookie"}
    assert "mine" not in headers["x-api-key"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_to_any_other_host_is_never_sent(program: Program, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        with pytest.raises(UsageError, match="not the host of a declared provider"):
            program.client().post(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1/messages", json=BODY)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert program.served() == []


@pytest.mark.parametrize(
    "path", ["/", "/v1/complete", "/v1/messages/../keys", "/v1/organizations", "/_sandbox/counters"]
)
def test_any_other_path_of_a_providers_host_is_never_sent(program: Program, path: str) -> None:
    with pytest.raises(UsageError, match="not a path that this transport serves"):
        program.client().post(f"{program.sandbox.url}{path}", json=BODY)
    assert program.sandbox.requests() == []


FAULTS: dict[str, Callable[[Program], object]] = {
    "none": lambda _: None,
    "an overload": lambda program: program.sandbox.fault("status", status=529, path="/v1/messages", times=1),
    "a limit": lambda program: program.sandbox.settings("dave", limits=LIMITED),
    "limits of all": lambda program: program.sandbox.settings(limits=LIMITED),
    "a bad key": lambda program: program.sandbox.revoke("dave", "api-key"),
    "a bad request": lambda program: program.sandbox.fault("status", status=400, path="/v1/messages", times=0),
    "an answer that is not JSON": lambda program: program.sandbox.fault("unreadable", body="<p>", path="/v1/messages"),
    "a redirect": lambda program: program.sandbox.fault(
        "redirect", location="http://127.0.0.1:1/", path="/v1/messages"
    ),
    "a lost connection": lambda program: program.sandbox.fault("cut_before", path="/v1/messages", times=0),
    "a stream that ends early": lambda program: program.sandbox.fault("truncate", path="/v1/messages"),
    "a stream that is cut": lambda program: program.sandbox.fault("truncate", cut=True, path="/v1/messages"),
    "an error in a stream": lambda program: program.sandbox.fault("sse_error", deltas=2, path="/v1/messages"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_answers_are_those_of_the_gateway(program: Program, fault: str, *, stream: bool) -> None:
    """The same requests and faults through both: equal answers, from the same accounts."""

    def run(client: httpx2.Client, url: str) -> list[Any]:
        FAULTS[fault](program)
        answers = [normal(client.post(url, json={**ASKED, "stream": stream})) for _ in range(2)]
        served = program.served()
        program.sandbox.reset()
        return [answers, served]

    with PrivateGateway(program.home, load(program.home.config)) as gateway:
        headers = {**VERSION, "x-api-key": gateway.key.reveal()}
        with httpx2.Client(headers=headers, trust_env=False) as client:
            through_the_port = run(client, f"{gateway.url}/v1/messages")
    for file in program.home.path.glob("state.db*"):
        file.unlink()  # with the cooldowns
    assert run(program.client(), program.url) == through_the_port


def test_the_models_and_the_count_of_tokens_are_served(program: Program) -> None:
    client = program.client()
    assert client.get(f"{program.sandbox.url}/v1/models").json()["data"]
    assert client.post(f"{program.url}/count_tokens", json=BODY).json()["input_tokens"] > 0


def test_a_body_that_is_read_as_it_is_sent_is_sent_whole(program: Program) -> None:
    request = program.client().build_request("POST", program.url, json=BODY)
    parts = iter([request.content[:20], request.content[20:]])
    headers = {"content-type": "application/json"}
    assert program.client().post(program.url, content=parts, headers=headers).status_code == 200


def test_a_stream_that_is_read_slowly_holds_the_upstream_back_and_arrives_whole(program: Program) -> None:
    program.sandbox.settings("dave", answer={"text": "wort " * 50_000})
    with program.client().stream("POST", program.url, json={**BODY, "stream": True, "max_tokens": 400_000}) as response:
        text = b"".join(response.iter_bytes(1000))
    assert text.count(b"content_block_delta") > 25_000
    assert b"event: message_stop" in text[-100:]


def test_a_stream_that_is_closed_half_read_leaves_no_request_open(program: Program) -> None:
    program.sandbox.fault("slow", seconds=60, events=3, path="/v1/messages")
    with program.client().stream("POST", program.url, json={**ASKED, "stream": True}) as response:
        assert next(response.iter_bytes())
    program.sandbox.wait_until(lambda counters: counters["totals"]["cancelled"] == 1)


def test_a_read_timeout_ends_the_request(program: Program) -> None:
    program.sandbox.fault("hang", path="/v1/messages")
    with pytest.raises(httpx2.ReadTimeout):
        program.post(program.client(timeout=0.05))
    program.sandbox.wait_until(lambda counters: counters["totals"]["cancelled"] == 1)


def test_closing_the_last_client_cuts_what_is_under_way_and_joins_the_thread(program: Program) -> None:
    program.sandbox.fault("hang", path="/v1/messages")
    client, other = program.client(), program.client()
    failures: list[Exception] = []

    def ask() -> None:
        try:
            program.post(client)
        except httpx2.HTTPError as fault:
            failures.append(fault)

    asking = threading.Thread(target=ask)
    asking.start()
    program.sandbox.wait_until(lambda counters: counters["totals"]["requests"] == 1)
    client.close()
    other.close()
    asking.join()
    assert isinstance(failures[0], httpx2.RemoteProtocolError)
    assert not [thread for thread in threading.enumerate() if thread.name == "tokenferry-in-process"]


@pytest.mark.anyio
async def test_cancelling_a_task_ends_its_request(program: Program) -> None:
    program.sandbox.fault("hang", path="/v1/messages")
    async with tokenferry.async_httpx_client(headers=VERSION) as client:
        task = asyncio.create_task(client.post(program.url, json=BODY))
        await asyncio.to_thread(program.sandbox.wait_until, lambda counters: counters["totals"]["requests"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(program.sandbox.wait_until, lambda counters: counters["totals"]["cancelled"] == 1)


def test_one_transport_serves_several_event_loops(program: Program) -> None:
    transport = tokenferry.async_transport()

    async def ask() -> int:
        request = httpx2.Request("POST", program.url, json=BODY, headers=VERSION)
        response = await transport.handle_async_request(request)
        await response.aread()
        return response.status_code

    assert [asyncio.run(ask()) for _ in range(3)] == [200] * 3
    asyncio.run(transport.aclose())


def test_a_hundred_threads_and_many_tasks_over_one_expired_login_make_one_grant(program: Program) -> None:
    program.add_login("carol-login", "carol", -60)
    with State(program.home.state):
        pass
    client = program.client(account="carol-login")

    async def ask_all() -> list[int]:
        async with tokenferry.async_httpx_client(account="carol-login", headers=VERSION) as client:
            found = await asyncio.gather(*(client.post(program.url, json=BODY) for _ in range(TASKS)))
        return [one.status_code for one in found]

    with ThreadPoolExecutor(101) as threads:
        tasks = threads.submit(lambda: asyncio.run(ask_all()))
        answers = [one.status_code for one in threads.map(lambda _: program.post(client), range(100))]
    assert set(answers + tasks.result()) == {200}
    assert program.sandbox.counters()["totals"]["refreshes"] == 1


def test_decisions_and_usage_are_written_as_of_this_process(program: Program) -> None:
    client = program.client()
    request_id = program.post(client).headers["x-tokenferry-request-id"]
    client.close()
    with State(program.home.state) as state:
        decision = state.decisions.get(request_id)
    assert decision is not None
    assert decision.content["client"] == "(in process)"
    with sqlite3.connect(program.home.ledger) as ledger:
        names = [name for (name,) in ledger.execute("SELECT label FROM names WHERE kind = 'key'")]
    assert names == ["(in process)"]


def test_a_cooldown_is_shared_with_other_processes(program: Program) -> None:
    program.sandbox.settings("dave", limits=LIMITED)
    client = program.client()
    assert program.post(client).status_code == 200
    client.close()
    with State(program.home.state) as state:
        assert [one.scope.kind for one in state.cooldowns.list()] == ["organization"]


def test_a_forked_child_starts_a_gateway_of_its_own(program: Program) -> None:
    client = program.client()
    assert program.post(client).status_code == 200
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int(program.post(client).status_code != 200)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert program.post(client).status_code == 200


def test_a_program_that_ends_without_closing_loses_nothing(program: Program) -> None:
    source = (
        "import tokenferry\n"
        f"client = tokenferry.httpx_client(headers={VERSION!r})\n"
        f"client.post({program.url!r}, json={BODY!r}).raise_for_status()\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
    with State(program.home.state) as state:
        assert len(state.decisions.latest(10)) == 1


def test_the_policy_holds_in_this_process_too(program: Program) -> None:
    """A Claude subscription serves nobody but Claude Code until its owner has stated otherwise."""
    program.configure("subscription = true")
    program.add_login("alice", "alice", 3600)
    response = program.post(program.client(account="alice"))
    assert response.status_code == 403
    assert "policy set own-use" in response.json()["error"]["message"]
    assert program.served() == []


def test_under_own_use_only_the_homes_owner_may_use_it(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.configure('[policy]\nsubscriptions = "own-use"\n')
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PolicyRefused, match="belongs to another user"):
        program.post(program.client())


def test_the_sdks_of_the_vendors_ask_the_gateway_whatever_the_environment_holds(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "theirs")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://127.0.0.1:1")
    program.sandbox.settings("dave", limits=LIMITED)
    with tokenferry.anthropic() as client:
        message = client.messages.create(**BODY)
        with client.messages.stream(**BODY) as stream:
            assert "ahoy" in stream.get_final_text()
    assert message.content[0].type == "text"
    assert program.served() == ["dave", "carol", "carol"]


@pytest.mark.anyio
async def test_the_asynchronous_sdk_does_too(program: Program) -> None:
    async with tokenferry.async_anthropic() as client:
        found = await asyncio.gather(*(client.messages.create(**BODY) for _ in range(20)))
    assert len(found) == 20


def test_the_sdk_of_another_vendor_asks_in_its_own_formats(program: Program) -> None:
    """Chat Completions and Responses are translated for an upstream of Messages, plain and streamed."""
    with tokenferry.openai() as client:
        chat = client.chat.completions.create(model="claude-opus-4-5", messages=[{"role": "user", "content": "ahoy"}])
        events = client.chat.completions.create(
            model="claude-opus-4-5", messages=[{"role": "user", "content": "ahoy"}], stream=True
        )
        streamed = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        response = client.responses.create(model="claude-opus-4-5", input="ahoy")
    assert "ahoy" in (chat.choices[0].message.content or "")
    assert streamed == chat.choices[0].message.content
    assert "ahoy" in response.output_text


def test_the_host_that_a_program_asks_names_the_provider(program: Program) -> None:
    """An unmapped model goes to the provider of the host, as far as that has accounts, whatever the default is."""
    program.configure(f'[[providers]]\nname = "chat"\nbase_url = "{program.sandbox.url}/v1"\nwire_format = "openai"')
    program.add_key("other", "carol", "chat")
    elsewhere = program.sandbox.url.replace("127.0.0.1", "localhost")
    program.configure(f'[[providers]]\nname = "chat"\nbase_url = "{elsewhere}/v1"\nwire_format = "openai"')
    with tokenferry.openai(base_url=f"{elsewhere}/v1") as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "ahoy"}])
    paths = [each["path"] for each in program.sandbox.requests() if each["path"].startswith("/v1")]
    assert paths == ["/v1/chat/completions"]


def test_an_sdk_raises_our_errors_at_once_and_unchanged(program: Program) -> None:
    with tokenferry.anthropic(base_url="https://elsewhere.invalid") as client, pytest.raises(UsageError) as caught:
        client.messages.create(**BODY)
    assert isinstance(caught.value, anthropic.AnthropicError)
    with tokenferry.openai(base_url="https://elsewhere.invalid/v1") as other, pytest.raises(UsageError) as again:
        other.models.list()
    assert isinstance(again.value, openai.OpenAIError)
    assert program.sandbox.requests() == []


def test_a_private_gateway_serves_what_takes_no_transport(program: Program) -> None:
    with tokenferry.gateway() as gateway:
        sdk = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key.reveal())
        assert sdk.messages.create(**BODY).content


def test_waiting_is_over_once_nothing_waits(program: Program) -> None:
    program.post(program.client())
    wait_for(lambda: program.sandbox.counters()["in_flight"] == 0)


def test_what_a_package_declares_of_a_provider_holds(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fixed header is sent in place of the program's, and its rule sends a 403 on to the next account."""
    information = tmp_path / "acme_x-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-x\nVersion: 1.0\n")
    (information / "RECORD").write_text("tokenferry.toml,,\n")
    (tmp_path / "tokenferry.toml").write_text(
        f'[[providers]]\nname = "sbx"\nbase_url = "{program.sandbox.url}"\n'
        '[providers.headers]\nx-acme-client = "tokenferry"\n'
        '[[providers.limits]]\nstatuses = [403]\nsays = "out of acme"\n'
        'cause = "acme"\nhold = "hour"\nreason = "Used up."\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    mapped = 'name = "claude-a"\nmappings = [{ provider = "sbx", actual_model = "claude-b" }]'
    more = f'[plugins]\nenabled = ["acme-x"]\n[[models]]\n{mapped}\n'
    program.configure(more)
    for name in ("dave", "carol"):
        program.add_key(f"{name}-sbx", name, "sbx")
    program.sandbox.fault("status", status=403, message="out of acme credit", path="/v1/messages", account="dave")
    with tokenferry.httpx_client(headers={**VERSION, "x-acme-client": "mine"}) as client:
        assert program.post(client, model="claude-a").status_code == 200
    assert program.served() == ["dave", "carol"]
    assert [value for name, value in program.sandbox.requests()[-1]["headers"] if name == "x-acme-client"] == [
        "tokenferry"
    ]
    with State(program.home.state) as state:
        assert [one.cause for one in state.cooldowns.list()] == ["acme"]


def test_a_budget_for_all_holds_in_this_process_too(program: Program) -> None:
    program.configure('[[budgets]]\nlimit = "0usd/day"\nblocked_message = "ask Ann"\n')
    response = program.post(program.client())
    assert response.status_code == 429
    assert "ask Ann" in response.json()["error"]["message"]
    assert program.served() == []


def test_requests_go_to_the_address_that_an_exchange_named(program: Program) -> None:
    """The account's API is another host than its provider's base_url, which nothing answers at."""
    issued = Secret(program.sandbox.setup_token("alice"))
    exchange = '{ url = "https://vendor.invalid/t", parameters = { t = "{token}" }, endpoint_field = "api", '
    exchange += 'endpoint_hosts = ["127.0.0.1"] }'
    program.configure(
        f'[[providers]]\nname = "exchanged"\nbase_url = "http://127.0.0.1:9"\ntoken_exchange = {exchange}\n'
        'headers = { x-team = "search", anthropic-beta = "oauth-2025-04-20" }\n'
        '[router]\nproviders = ["exchanged"]\n'
    )
    token = ExchangedToken(issued, subject=Secret("gho_long-lived"), endpoint=program.sandbox.url)
    program.add("short", token, "exchanged")
    response = program.client().post("http://127.0.0.1:9/v1/messages", json=BODY)
    assert response.status_code == 200, response.text
    (sent,) = program.sandbox.requests(last=1)
    assert (sent["account"], dict(sent["headers"])["x-team"]) == ("alice", "search")


def test_claude_on_vertex_ai_is_served_with_a_service_accounts_token(program: Program, tmp_path: Path) -> None:
    """From the file to the answer: the grant, the path and body of the call, a stream, and a count of tokens."""
    pytest.importorskip("google.auth", reason="an extra")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fields = {"type": "service_account", "client_email": "carol@p.example", "private_key": private.decode()}
    fields |= {"private_key_id": "1", "token_uri": f"{program.sandbox.url}/google/token"}
    (program.home.config.parent / "google.json").write_text(json.dumps(fields))
    program.configure(
        f'[[providers]]\nname = "vertex"\nbase_url = "{program.sandbox.url}/v1/projects/p/locations/global"\n'
        'wire_format = "vertex-anthropic"\nkey_header = "authorization"\ngoogle_credentials = "google.json"\n'
    )
    client = anthropic.Anthropic(api_key="-", http_client=program.client())
    model = "vertex/claude-opus-4-6"
    asked: Any = {"model": model, "messages": BODY["messages"]}
    with client.messages.stream(max_tokens=50, **asked) as stream:
        assert "ahoy" in stream.get_final_text()
    assert client.messages.count_tokens(**asked).input_tokens > 0
    paths = [one["path"].rpartition("/")[2] for one in program.sandbox.requests(last=3)]
    assert paths == ["token", "claude-opus-4-6:streamRawPredict", "count-tokens:rawPredict"]
    with pytest.raises(anthropic.NotFoundError, match="Publisher Model"):
        client.messages.create(max_tokens=50, **asked | {"model": "vertex/gpt"})


@pytest.mark.parametrize("path", ["/v1/models", "/v1beta/models"])
def test_requests_to_googles_host_are_served_without_the_programs_key(program: Program, path: str) -> None:
    client = program.client(headers={"x-goog-api-key": "AIza-of-the-program"})
    address = f"https://generativelanguage.googleapis.com{path}/claude-opus-4-5:streamGenerateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "ahoy"}]}]}
    answer = client.post(address, params={"alt": "sse", "key": "AIza-of-the-program"}, json=body)
    assert answer.status_code == 200, answer.text
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    texts = [part["text"] for one in told for part in one["candidates"][0]["content"]["parts"]]
    assert "ahoy" in "".join(texts)
    assert program.served() == ["dave"]
    with pytest.raises(UsageError, match="not a path that this transport serves"):
        client.post(f"https://generativelanguage.googleapis.com{path}/x:embedContent", json=body)
