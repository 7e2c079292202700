"""A session that moves between Claude and upstreams of OpenAI's formats, whose thoughts aren't the other's."""

from typing import Any, Final

import httpx2
import pytest

from in_process.rig import BODY, Program
from wire.rig import events, message

UPSTREAMS: Final = """
[[providers]]
name = "away"
provider_type = "deepseek"
base_url = "{url}/v1"
wire_format = "{wire_format}"

[[providers]]
name = "elsewhere"
provider_type = "deepseek"
base_url = "{url}/v1"
wire_format = "{wire_format}"

[[models]]
name = "away"
mappings = [{{ provider = "away", actual_model = "gpt-oss" }}]

[[models]]
name = "elsewhere"
mappings = [{{ provider = "elsewhere", actual_model = "gpt-oss" }}]
"""
LOOK: Final = {"name": "look", "input_schema": {"type": "object"}}
THINKING: Final = {
    "max_tokens": 4000,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
CLAUDE: Final = BODY["model"]


class Session:
    """What a client does that keeps what it was told, as it was told."""

    def __init__(self, program: Program, wire_format: str, *, stream: bool) -> None:
        program.configure(UPSTREAMS.format(url=program.sandbox.url, wire_format=wire_format))
        for provider, owner in (("away", "alice"), ("elsewhere", "bob")):
            program.add_key(provider, owner, provider)
        program.sandbox.settings(answer={"thinking": True})
        self.program, self._stream = program, stream
        self.client = program.client()
        self.turns: list[dict[str, Any]] = []

    def say(self, model: str, content: Any, **fields: Any) -> list[dict[str, Any]]:
        self.turns.append({"role": "user", "content": content})
        answer = self._post(model, stream=self._stream, **fields)
        told = message(answer.content) if self._stream else answer.json()
        self.turns.append({"role": "assistant", "content": told["content"]})
        return list(told["content"])

    def count(self, model: str, **fields: Any) -> httpx2.Response:
        return self._post(model, "/count_tokens", **fields)

    def _post(self, model: str, place: str = "", **fields: Any) -> httpx2.Response:
        body = {**BODY, "model": model, "messages": self.turns, **fields}
        answer = self.client.post(self.program.url + place, json=body)
        assert answer.status_code == 200, answer.text
        return answer


def kinds(content: list[dict[str, Any]]) -> list[str]:
    return [block["type"] for block in content]


def is_foreign(content: list[dict[str, Any]]) -> bool:
    """Whether it begins with a thought that isn't Claude's."""
    assert content[0]["type"] == "thinking"
    return bool(content[0]["signature"].startswith("tokenferry.reasoning."))


@pytest.fixture(params=["openai", "openai-responses"])
def wire_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def session(program: Program, wire_format: str, request: pytest.FixtureRequest) -> Session:
    return Session(program, wire_format, stream=request.param)


def test_each_model_gets_its_own_thoughts_back_and_no_others(session: Session) -> None:
    models = (CLAUDE, "away", CLAUDE, "elsewhere", "away", "elsewhere", CLAUDE)
    answers = [session.say(model, "hello", **THINKING) for model in models]
    assert [is_foreign(content) for content in answers] == [model != CLAUDE for model in models]
    assert answers[1][0]["thinking"] == "The user of alice said something; I repeat it. ⛴"
    assert session.count(CLAUDE, **THINKING).json()["input_tokens"] > 0


@pytest.mark.parametrize("kind", ["enabled", "adaptive"])
def test_claude_reads_the_results_of_calls_that_another_model_made(session: Session, kind: str) -> None:
    fields = {**THINKING, "tools": [LOOK]}
    if kind == "adaptive":
        fields["thinking"] = {"type": "adaptive"}
    session.program.sandbox.settings(answer={"thinking": True, "calls": [{"name": "look", "input": {"at": 1}}]})
    asked = session.say("away", "look", **fields)
    assert is_foreign(asked)
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "a ferry"}
        for block in asked
        if block["type"] == "tool_use"
    ]
    assert len(results) == 1
    session.program.sandbox.settings(answer={"thinking": True, "calls": []})
    answer = session.say(CLAUDE, results, **fields)
    assert (answer[0]["type"] == "thinking") is (kind == "adaptive"), "a budget demands thoughts before the calls"
    assert session.say(CLAUDE, "and now?", **fields)[0]["type"] == "thinking"
    assert is_foreign(session.say("elsewhere", "and you?", **fields))


def test_encrypted_reasoning_stays_with_the_account_that_it_came_from(program: Program) -> None:
    session = Session(program, "openai-responses", stream=True)
    program.add_key("other", "carol", "away")
    for expected in ("alice", "alice"):
        assert expected in session.say("away", "hello", **THINKING)[0]["thinking"]
    limits = {"requests": {"limit": 50, "remaining": 0, "reset_in": 3600}}
    program.sandbox.settings("alice", limits=limits)
    for _ in range(2):
        assert "carol" in session.say("away", "hello", **THINKING)[0]["thinking"]
    assert session.say(CLAUDE, "hello", **THINKING)[0]["thinking"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_in_responses_goes_on_with_another_organization(program: Program, *, stream: bool) -> None:
    """What isn't translated goes without the thoughts of another account, and is asked once."""
    session = Session(program, "openai-responses", stream=stream)
    program.add_key("other", "carol", "away")
    asked: dict[str, Any] = {"model": "away", "include": ["reasoning.encrypted_content"], "stream": stream}
    turns: list[dict[str, Any]] = []
    for owner in ("alice", "alice", "carol", "carol"):
        if owner == "carol":
            limits = {"requests": {"limit": 50, "remaining": 0, "reset_in": 3600}}
            program.sandbox.settings("alice", limits=limits)
        turns.append({"role": "user", "content": "hello"})
        answer = session.client.post(f"{program.sandbox.url}/v1/responses", json={**asked, "input": turns})
        assert answer.status_code == 200, answer.text
        told = events(answer.content)[-1]["response"] if stream else answer.json()
        assert owner in told["output"][0]["summary"][0]["text"]
        turns += told["output"]
    posted = [one for one in program.sandbox.requests() if one["path"] == "/v1/responses"]
    assert [(one["account"], one["status"]) for one in posted] == [
        ("alice", 200),
        ("alice", 200),
        ("alice", 429),
        ("carol", 200),
        ("carol", 200),
    ]


def test_thoughts_from_before_the_process_began_are_left_to_the_vendor(program: Program) -> None:
    """Nobody knows whose they are: the refusal is not passed on, and the request goes once more without them."""
    session = Session(program, "openai-responses", stream=False)
    asked: dict[str, Any] = {"model": "away", "include": ["reasoning.encrypted_content"]}
    turns: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
    address = f"{program.sandbox.url}/v1/responses"
    turns += session.client.post(address, json={**asked, "input": turns}).json()["output"]
    turns.append({"role": "user", "content": "hello"})
    session.client.close()
    answer = program.client().post(address, json={**asked, "model": "elsewhere", "input": turns})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_claude_goes_on_after_calls_of_a_model_without_thoughts(program: Program, *, stream: bool) -> None:
    """Nothing marks such calls as another model's: Claude's refusal isn't passed on, the turn goes without thinking."""
    session = Session(program, "openai", stream=stream)
    fields = {**THINKING, "tools": [LOOK]}
    program.sandbox.settings(answer={"thinking": False, "calls": [{"name": "look", "input": {"at": 1}}]})
    asked = session.say("away", "look", **fields)
    calls = [block for block in asked if block["type"] == "tool_use"]
    assert "thinking" not in kinds(asked)
    program.sandbox.settings(answer={"thinking": True, "calls": []})
    results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "a ferry"} for block in calls]
    assert kinds(session.say(CLAUDE, results, **fields)) == ["text"]
    assert session.say(CLAUDE, "and now?", **fields)[0]["type"] == "thinking"


def test_claude_goes_on_without_thoughts_that_another_vendor_signed(program: Program) -> None:
    """A vendor's own endpoint of the Messages API signs for itself; only Claude's refusal tells."""
    session = Session(program, "openai", stream=False)
    thought = {"type": "thinking", "thinking": "hm", "signature": "another-vendors"}
    session.turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "hello"}]},
    ]
    assert session.say(CLAUDE, "and now?", **THINKING)[0]["type"] == "thinking"
    assert [one["status"] for one in program.sandbox.requests() if one["path"] == "/v1/messages"] == [400, 200]


def test_a_refusal_that_remains_is_passed_on(program: Program) -> None:
    program.sandbox.fault(
        "status", status=400, message="Invalid `signature` in `thinking` block", path="/v1/messages", times=0
    )
    assert program.post(program.client()).status_code == 400
    assert len(program.served()) == 2
