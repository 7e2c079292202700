"""`doctor --bundle`: a report that helps, and holds nothing that was typed, issued or named here."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.documents import document, put
from cli.harness import Outcome
from leaks import shows
from ledger.books import PRICES, entry
from tokenferry.audit import note_change
from tokenferry.ledger import Ledger
from tokenferry.settings import Home
from tokenferry.state import State, local_key

Inside = Callable[..., Outcome]
CANARY = "canary" + "q7" * 20


def canary(place: str) -> str:
    return f"{place}-{CANARY}"


PLACES = (
    *("access", "refresh", "label", "email", "apikey", "host", "path", "model", "command", "odd", "name", "variable"),
    *("journal", "audit", "statement", "header", "unknown", "asked", "keyname"),
)


@pytest.fixture
def littered(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a canary wherever a person, a provider or a client can put something."""
    credential = {
        "access_token": canary("access"),
        "refresh_token": canary("refresh"),
        "expires_at": int(time.time()) - 60,
        "email": f"{canary('email')}@example.com",
        "unknown": canary("unknown"),
    }
    name = f"name-{CANARY}"[:60]
    put(home, document(time.time(), name=name, labels={"team": canary("label")}, credential=credential), name)
    put(home, b"{" + canary("odd").encode(), "broken")
    (home.path / "accounts" / "broken.json").chmod(0o644)
    home.config.write_text(
        f"""
[server]
host = "127.0.0.1"
allowed_hosts = ["{canary("host")}.example.com"]
[pool]
max_attempts = 3
strategy = "{canary("odd")}"
[[providers]]
name = "mine-{CANARY}"
base_url = "https://{canary("host")}.example.com/{canary("path")}"
api_key = "{canary("apikey")}"
command = ["op", "read", "{canary("command")}"]
[[models]]
name = "{canary("model")}"
mappings = [{{ provider = "mine-{CANARY}", actual_model = "{canary("model")}" }}]
[[router.rules]]
headers = {{ x = "{canary("header")}" }}
model = "{canary("model")}"
"""
    )
    home.config.chmod(0o600)
    monkeypatch.setenv("ANTHROPIC_API_KEY", canary("variable"))
    local_key(home)
    with State(home.state) as state:
        state.keys.create(canary("keyname"), budgets=("1tokens/day",))
    with Ledger(home.ledger) as ledger:
        ledger.write([entry(1, at=time.time(), model=canary("asked"), asked="")], PRICES)
    note_change(home, "key-created", canary("audit"))
    (home.path / "journal").mkdir(mode=0o700, exist_ok=True)
    (home.path / "journal" / canary("journal")).write_text(canary("journal"))
    (home.path / canary("path")).write_text("")
    return home


def test_no_canary_is_in_the_report(littered: Home, inside: Inside) -> None:
    key = littered.local_key.read_text().strip()
    outcome = inside("doctor", "--bundle")
    report = json.loads(outcome.out)
    assert outcome.code == 1
    assert shows(outcome.out + outcome.err, *map(canary, PLACES), key) == []
    assert CANARY[:12] not in outcome.out + outcome.err
    assert str(littered.path) not in outcome.out
    assert str(Path.home()) not in outcome.out
    assert report["findings"]


def test_the_report_says_what_helps(littered: Home, inside: Inside) -> None:
    """The control: without the veil the canaries would be in it, for the same findings name them."""
    report = inside("doctor", "--bundle").json
    assert report["settings"]["pool.max_attempts"] == [3]
    assert report["settings"]["providers.*.base_url"] == ["set"]
    assert {one.get("owner") for one in report["accounts"]} == {None, "tokenferry"}
    assert report["files"]["accounts"]["inside"] == {"-rw-------": 1, "-rw-r--r--": 1}
    assert "ANTHROPIC_API_KEY" in report["variables"]
    assert report["packages"]["msgspec"] != "missing"
    said = inside("doctor", "--json")
    assert CANARY in said.out
    assert len(report["findings"]) >= len(said.json)


def test_words_of_the_log_stay_in_sentences_and_names_from_databases_do_not(home: Home, inside: Inside) -> None:
    """What a gateway says of its own accord is in the same words as the findings."""
    with Ledger(home.ledger) as ledger:
        ledger.write([entry(1, at=time.time(), model="odd-one", asked="")], PRICES)
    (home.path / "serve.log").write_text("declare a million tokens for requests of this price\n")
    findings = inside("doctor", "--bundle").json["findings"]
    (finding,) = [one for one in findings if "price" in one["what"]]
    assert finding["what"].endswith("counted at $5 and $25 a million tokens")
    assert finding["where"] == "model [redacted] of provider anthropic"


def test_an_account_of_a_declared_provider_has_the_state_that_the_list_has(home: Home, inside: Inside) -> None:
    home.config.write_text('[[providers]]\nname = "mine"\nbase_url = "https://llm.example.com"\n')
    home.config.chmod(0o600)
    put(home, document(time.time(), provider="mine"))
    (account,) = inside("doctor", "--bundle").json["accounts"]
    assert (account["state"], account["provider"]) == ("fresh", "custom")


def test_a_sound_home_has_a_report_too(home: Home, inside: Inside) -> None:
    with State(home.state):
        pass
    report = inside("doctor", "--bundle").json
    assert report["accounts"] == []
    assert "state.db" in report["files"]
