import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome, tokenferry
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Decision, Scope, State, local_key

Inside = Callable[..., Outcome]
KEY = "sk-ant-api03-" + "a" * 40


IN_ORDER = '[[providers]]\nname = "anthropic"\naccounts = ["work", "spare", "third"]\n'
"""For accounts of one second are in the order of their names."""


@pytest.fixture
def accounts(home: Home) -> None:
    for name in ("work", "spare", "third"):
        assert tokenferry("account", "add", name, stdin=f"{KEY}{name}").code == 0
    home.config.write_text(IN_ORDER)
    home.config.chmod(0o600)
    with State(home.state) as state:
        local_key(home, state)


def bench(home: Home, name: str, family: str = "") -> int:
    until = int(time.time()) + 3600
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", name, family), "window", "answer", until, "It is limited."))
    return until


def test_the_first_ready_account_would_serve_and_every_other_has_its_reason(
    home: Home, accounts: None, inside: Inside
) -> None:
    until = bench(home, "work")
    (told,) = inside("explain", "route", "--model", "claude-sonnet-4-5", "--json").json
    assert (told["provider"], told["model"], told["account"]) == ("anthropic", "claude-sonnet-4-5", "spare")
    assert told["why"] == "it is the first in order that can serve"
    assert told["passed_over"] == [
        {"account": "work", "why": "It is limited.", "cause": "window", "until": until},
        {"account": "third", "why": "it could serve, but comes later", "cause": None, "until": None},
    ]
    asked, rule, *lines = inside("explain", "route").out.splitlines()
    assert asked == f"asked     the records in {home.path}"
    assert rule == "rule      it is the default provider"
    assert lines[0].split() == ["provider", "anthropic"]
    assert lines[1].startswith("account   spare would serve: ")
    assert lines[2].startswith("account   work not: It is limited, until 20")


def test_a_family_that_is_limited_counts_for_its_models_alone(home: Home, accounts: None, inside: Inside) -> None:
    bench(home, "work", "claude-opus")
    for model, account in (("claude-opus-4-5", "spare"), ("claude-sonnet-4-5", "work")):
        assert inside("explain", "route", "--model", model, "--json").json[0]["account"] == account


def test_a_session_stays_where_it_was_served_last(home: Home, accounts: None, inside: Inside) -> None:
    with State(home.state) as state:
        state.decisions.add(
            Decision(f"tf_{at}", at, {"session": session, "account": account, "status": status})
            for at, (session, account, status) in enumerate(
                [("s", "work", 200), ("s", "third", 200), ("s", "spare", 529), ("t", "spare", 200)]
            )
        )
    (told,) = inside("explain", "route", "--session", "s", "--json").json
    assert (told["account"], told["why"]) == ("third", "its session uses this account")
    bench(home, "third")
    assert inside("explain", "route", "--session", "s", "--json").json[0]["account"] == "work"


def test_a_key_that_may_use_one_account_is_led_to_no_other(home: Home, accounts: None, inside: Inside) -> None:
    inside("key", "create", "guest", "--account", "third")
    (told,) = inside("explain", "route", "--key", "guest", "--json").json
    assert told["account"] == "third"
    assert {one["why"] for one in told["passed_over"]} == {"its client key may not use it"}


def test_a_body_is_read_no_further_than_the_gateway_would(accounts: None, inside: Inside, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    with body.open("wb") as file:
        file.truncate(2**40)  # what it holds would fit in no memory
    outcome = inside("explain", "route", "--body", str(body))
    assert outcome.code == 2
    assert "larger than 32 MiB" in outcome.one_line()


def test_where_no_account_can_serve_it_says_so(home: Home, accounts: None, inside: Inside) -> None:
    for name in ("work", "spare", "third"):
        bench(home, name)
    outcome = inside("explain", "route")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].startswith("answer")


ROUTED = """
[[providers]]
name = "other"
base_url = "https://llm.example"
[[models]]
name = "glm"
[[models.mappings]]
provider = "other"
actual_model = "z/glm"
[[models.mappings]]
provider = "anthropic"
priority = 2
[[models]]
name = "none"
[[models.mappings]]
provider = "chat"
[[providers]]
name = "chat"
provider_type = "deepinfra"
[router]
providers = ["anthropic"]
background = "glm"
think = "none"
[[router.rules]]
name = "research"
model = "glm"
headers = { x-team = "^re" }
"""


@pytest.fixture
def routed(home: Home, accounts: None) -> None:
    home.config.write_text(ROUTED + IN_ORDER)
    home.config.chmod(0o600)
    assert tokenferry("account", "add", "else", "--provider", "other", stdin=KEY).code == 0


def test_the_rule_that_decides_is_shown_with_every_provider_in_its_order(
    routed: None, inside: Inside, tmp_path: Path
) -> None:
    first, second = inside("explain", "route", "--model", "claude-haiku-4-5", "--json").json
    assert (first["rule"], first["requested"]) == ("background", "claude-haiku-4-5")
    assert (first["provider"], first["model"], first["account"]) == ("other", "z/glm", "else")
    assert (second["provider"], second["model"], second["account"]) == ("anthropic", "glm", "work")
    _, rule, *_ = inside("explain", "route", "--model", "claude-haiku-4-5").out.splitlines()
    assert rule.startswith(
        "rule      background: background_regex matches the requested model, so claude-haiku-4-5 goes to"
    )
    body = tmp_path / "body.json"
    body.write_text('{"model": "claude-sonnet-5", "messages": []}')
    told = inside("explain", "route", "--body", str(body), "--header", "X-Team: research", "--json").json
    assert [one["rule"] for one in told] == ["research", "research"]
    assert inside("explain", "route", "--body", str(body), "--json").json[0]["rule"] == "default"


def test_a_request_that_goes_nowhere_is_explained_in_the_client_s_words(
    routed: None, inside: Inside, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"model": "x", "thinking": {"type": "enabled"}}')
    outcome = inside("explain", "route", "--body", str(body))
    assert outcome.code == 1
    assert outcome.out.splitlines()[1].startswith(
        "refused   503: no provider serves model 'none': chat has the format openai but no base_url"
    )
    assert inside("explain", "route", "--body", str(body), "--json").json[0]["status"] == 503
    body.write_text('{"model": "x", "model": "y"}')
    assert "twice" in inside("explain", "route", "--body", str(body)).one_line()
    assert inside("explain", "route", "--body", str(tmp_path / "none")).code == 2
    assert inside("explain", "route", "--body", str(body), "--model", "x").code == 2
    assert inside("explain", "route", "--header", "x").code == 2


def test_it_tells_before_the_first_serve_too(home: Home, inside: Inside) -> None:
    assert tokenferry("account", "add", "work", stdin=KEY).code == 0
    assert inside("explain", "route", "--model", "m", "--json").json[0]["account"] == "work"
    assert inside("explain", "route", "--key", "nobody").code == 4


def test_a_provider_whose_format_cannot_say_what_is_asked_for_is_shown_with_the_reason(
    home: Home, accounts: None, inside: Inside, tmp_path: Path
) -> None:
    chat = '[[providers]]\nname = "chat"\nbase_url = "https://llm.example/v1"\nwire_format = "openai"\n'
    home.config.write_text(
        f'{chat}[[models]]\nname = "m"\n[[models.mappings]]\nprovider = "chat"\nactual_model = "gpt"\n'
    )
    home.config.chmod(0o600)
    assert tokenferry("account", "add", "else", "--provider", "chat", stdin=KEY).code == 0
    body = tmp_path / "body.json"
    asked = {"model": "m", "max_tokens": 1, "messages": [], "tools": [{"type": "web_search_20250305", "name": "x"}]}
    body.write_text(json.dumps(asked))
    out = inside("explain", "route", "--body", str(body)).out
    assert "unfit     its format can't say what is asked for: the server runs the tool 'web_search_20250305'" in out
    assert "the client would get 400" in out
    body.write_text(json.dumps({"contents": [{"parts": [{"text": "hi"}]}], "cachedContent": "x"}))
    out = inside("explain", "route", "--format", "gemini", "--model", "m", "--body", str(body)).out
    assert "unfit     its format can't say what is asked for: cachedContent can't be translated" in out
