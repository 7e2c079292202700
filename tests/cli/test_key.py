import json
import subprocess
import time
from collections.abc import Callable

import pytest

from cli.harness import Outcome
from tokenferry.settings import NO_CAPS, Home
from tokenferry.state import State, local_key

Inside = Callable[..., Outcome]
Login = Callable[..., object]


def test_a_new_key_is_alone_on_stdout_and_works(home: Home, inside: Inside) -> None:
    outcome = inside("key", "create", "laptop")
    assert outcome.code == 0
    key = outcome.out.strip()
    assert outcome.out == f"{key}\n"
    assert "laptop" in outcome.err
    assert key not in outcome.err
    with State(home.state) as state:
        found = state.keys.verify(key)
    assert found is not None
    assert (found.name, found.admin) == ("laptop", False)


def test_json_holds_the_key_once_and_its_name_and_id(home: Home, inside: Inside) -> None:
    made = inside("key", "create", "boss", "--role", "admin", "--json").json
    assert made["key"].startswith("tfa_")
    assert (made["name"], made["admin"]) == ("boss", True)
    listed = inside("key", "list", "--json")
    assert listed.json[0]["id"] == made["id"]
    assert listed.hides(made["key"])


def test_a_revoked_key_stays_in_the_list_and_no_longer_works(home: Home, inside: Inside) -> None:
    key = inside("key", "create", "laptop").out.strip()
    assert inside("key", "revoke", "laptop").out.startswith("revoked client key laptop")
    assert inside("key", "list", "--json").json[0]["revoked_at"] is not None
    assert inside("key", "list").out.splitlines()[0].split()[0] == "NAME"
    with State(home.state) as state:
        assert state.keys.verify(key) is None


def test_a_key_has_labels_and_an_expiry_as_asked(home: Home, inside: Inside) -> None:
    before = int(time.time())
    made = inside(
        "key", "create", "ci", "--expires", "90d", "--label", "team=build", "--label", "room=4", "--json"
    ).json
    assert before + 90 * 86_400 <= made["expires_at"] <= time.time() + 90 * 86_400
    assert made["labels"] == {"room": "4", "team": "build"}
    row = inside("key", "list").out.splitlines()[1]
    assert "room=4,team=build" in row
    assert "live" in row
    assert (
        inside("key", "set", "ci", "--label", "room-", "--label", "team=a=b")
        .out.strip()
        .endswith("has labels team=a=b")
    )
    shown = inside("key", "show", "CI")
    assert dict(line.split(maxsplit=1) for line in shown.out.splitlines())["labels"] == "team=a=b"
    assert shown.hides(made["key"])
    assert inside("key", "show", made["id"], "--json").json["labels"] == {"team": "a=b"}


def test_an_expired_key_is_shown_as_such_and_no_longer_works(home: Home, inside: Inside) -> None:
    with State(home.state, now=lambda: 1_700_000_000) as state:
        _, secret = state.keys.create("old", expires_at=1_700_000_060)
    assert inside("key", "list", "--json").json[0]["state"] == "expired"
    with State(home.state) as state:
        assert state.keys.verify(secret.reveal()) is None


def test_a_key_is_renamed_and_stays_the_same(home: Home, inside: Inside) -> None:
    key = inside("key", "create", "laptop").out.strip()
    assert "client key laptop" in inside("key", "rename", "laptop", "desk").out
    assert inside("key", "list", "--json").json[0]["name"] == "desk"
    with State(home.state) as state:
        assert state.keys.verify(key) is not None


def test_several_keys_are_revoked_at_once_or_none(home: Home, inside: Inside) -> None:
    ids = [inside("key", "create", name, "--json").json["id"] for name in ("a", "b", "c")]
    refused = inside("key", "revoke", "a", "nobody", "b")
    assert refused.code == 4
    assert "'nobody'" in refused.one_line()
    revoked = inside("key", "revoke", "a", ids[1], "--json").json
    assert [(one["name"], one["state"]) for one in revoked] == [("a", "revoked"), ("b", "revoked")]
    assert [one["state"] for one in inside("key", "list", "--json").json] == ["revoked", "revoked", "live"]


def test_every_change_leaves_a_line_in_the_audit_log(home: Home, inside: Inside) -> None:
    inside("key", "create", "a", "--expires", "1h")
    inside("key", "create", "b")
    inside("key", "set", "a", "--label", "x=y")
    inside("key", "rename", "a", "c")
    inside("key", "revoke", "b", "c")
    inside("key", "rename", "nobody", "d")
    inside("key", "show", "c")
    entries = [json.loads(line) for line in home.audit.read_text().splitlines()]
    assert [(one["action"], one["name"]) for one in entries] == [
        ("key.create", "a"),
        ("key.create", "b"),
        ("key.label", "a"),
        ("key.rename", "c"),
        ("key.revoke", "b"),
        ("key.revoke", "c"),
    ]
    assert entries[3]["old_name"] == "a"
    assert entries[0]["expires_at"] > time.time()


@pytest.mark.parametrize("span", ["90", "d", "-1d", "1y", "0s", "999999w", "", "1d "])
def test_a_span_that_is_none_is_a_usage_error(home: Home, inside: Inside, span: str) -> None:
    assert inside("key", "create", "ci", "--expires", span).code == 2
    assert inside("key", "list", "--json").json == []


@pytest.mark.parametrize("label", ["team", "team-", "=x", "a b=c", "a=\x1b"])
def test_a_label_that_is_none_is_a_usage_error(home: Home, inside: Inside, label: str) -> None:
    assert inside("key", "create", "ci", "--label", label).code == 2
    assert inside("key", "list", "--json").json == []


def test_a_key_typed_in_place_of_its_name_is_not_shown(home: Home, inside: Inside) -> None:
    key = inside("key", "create", "laptop").out.strip()
    for command in ("revoke", "show"):
        outcome = inside("key", command, key)
        assert outcome.code == 4
        assert outcome.hides(key)


def test_what_can_not_be_done_is_a_sentence(home: Home, inside: Inside) -> None:
    assert "no client key yet" in inside("key", "list").err
    inside("key", "create", "laptop")
    assert inside("key", "create", "laptop").code == 1
    assert inside("key", "create", "../x").code == 2
    assert inside("key", "revoke", "nobody").code == 4
    home.state.chmod(0o644)
    assert inside("key", "list").code == 8


def test_a_key_is_given_rights_and_other_rights_later(home: Home, inside: Inside, login: Login) -> None:
    login("work")
    login("spare", "bob")
    made = inside("key", "create", "guest", "--model", "claude-haiku*", "--account", "work", "--json").json
    assert made["rights"] == {"models": ["claude-haiku*"], "providers": [], "accounts": ["work"], "pin": None}
    assert "models=claude-haiku*,accounts=work" in inside("key", "list").out.splitlines()[1]
    outcome = inside("key", "set", "guest", "--any-model", "--any-account", "--provider", "sandbox", "--pin", "spare")
    assert outcome.out == f"client key guest ({made['id']}) may use providers=sandbox,pin=spare\n"
    shown = dict(line.split(maxsplit=1) for line in inside("key", "show", "guest").out.splitlines())
    assert (shown["models"], shown["providers"], shown["pinned"]) == ("any", "sandbox", "to    spare")
    outcome = inside("key", "set", "guest", "--any-provider", "--no-pin")
    assert outcome.out == f"client key guest ({made['id']}) may use everything\n"
    audited = [json.loads(line) for line in home.audit.read_text().splitlines()]
    assert [entry.get("rights") for entry in audited if entry["action"] == "key.set"] == [
        "providers=sandbox,pin=spare",
        None,
    ]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--account", "wrok"), 4, ("no account 'wrok'", "did you mean 'work'?")),
        (("--pin", "nothing-like-it"), 4, ("there is work", "account list")),
        (("--provider", "anthropc"), 4, ("no provider 'anthropc'", "did you mean 'anthropic'?")),
        (("--provider", "anthropic", "--pin", "work"), 2, ("--provider sandbox",)),
        (("--model", "a b"), 2, ("without blanks",)),
        (("--model", "a", "--any-model"), 2, ("exclude each other",)),
        ((), 2, ("no setting was given",)),
    ],
)
def test_rights_that_nothing_answers_to_change_nothing(
    inside: Inside, login: Login, options: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    login("work")
    inside("key", "create", "guest", "--model", "claude-haiku")
    outcome = inside("key", "set", "guest", *options)
    assert outcome.code == code
    assert all(word in outcome.err for word in words)
    if options and "--any-model" not in options:
        assert inside("key", "create", "other", *options).code == code
    (only,) = inside("key", "list", "--json").json
    assert only["rights"]["models"] == ["claude-haiku"]


def test_an_admin_key_is_given_no_rights(inside: Inside) -> None:
    assert inside("key", "create", "boss", "--role", "admin", "--model", "claude-haiku").code == 2
    assert inside("key", "list", "--json").json == []


def test_prune_forgets_what_was_revoked_or_has_expired_and_no_other(home: Home, inside: Inside) -> None:
    assert inside("key", "prune").one_line() == "no client key is revoked or expired"
    for name in ("live", "gone"):
        assert inside("key", "create", name).code == 0
    inside("key", "revoke", "gone")
    with State(home.state, now=lambda: 1_700_000_000) as state:
        state.keys.create("short", expires_at=1_700_000_060)
    assert sorted(line.split()[3] for line in inside("key", "prune").out.splitlines()) == ["gone", "short"]
    assert [one["name"] for one in inside("key", "list", "--json").json] == ["live"]
    assert inside("key", "prune", "--json").json == []


def test_a_revoked_local_key_stays_known_as_revoked(home: Home, inside: Inside) -> None:
    """Else the next gateway would register it again."""
    before = local_key(home)
    inside("key", "revoke", "local")
    assert inside("key", "prune", "--json").json == []
    assert local_key(home).reveal() != before.reveal()


def test_the_lines_for_a_colleague_are_a_shell_script_that_sets_the_variables(home: Home, inside: Inside) -> None:
    outcome = inside("key", "create", "colleague", "--print-setup")
    assert outcome.code == 0
    told = subprocess.run(
        ["sh", "-c", f'{outcome.out}\necho "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"'],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert told[0] == "http://127.0.0.1:13456"
    with State(home.state) as state:
        key = state.keys.verify(told[1])
        assert key is not None
        assert key.name == "colleague"
    assert "on this machine alone" in outcome.out
    assert inside("key", "create", "boss", "--role", "admin", "--print-setup").code == 2


def test_a_key_is_given_budgets_and_loses_them(home: Home, inside: Inside) -> None:
    inside("key", "create", "ci", "--budget", "20usd/day", "--budget", "1Mtokens/week")
    changed = inside("key", "set", "ci", "--budget", "5 usd/month")
    assert "may use 5usd/month" in changed.out
    assert inside("key", "show", "ci", "--json").json["budgets"] == ["5usd/month"]
    assert inside("key", "set", "ci", "--budget", "5usd", "--label", "a=b").code == 2
    assert inside("key", "show", "ci", "--json").json["labels"] == {}
    assert "5usd/month" in inside("key", "list", "--wide").out
    inside("key", "set", "ci", "--no-budget")
    assert inside("key", "show", "ci", "--json").json["budgets"] == []
    assert '"budgets": "20usd/day, 1000000tokens/week"' in home.audit.read_text()


def test_a_keys_rates_are_set_shown_and_lifted(home: Home, inside: Inside) -> None:
    inside("key", "create", "build", "--rpm", "60", "--tpm", "200000", "--role", "client")
    limits = {"requests_per_minute": 60, "tokens_per_minute": 200_000, "max_concurrency": None}
    assert inside("key", "show", "build", "--json").json["limits"] == limits
    assert "limits       60 requests a minute, 200,000 tokens a minute\n" in inside("key", "show", "build").out
    said = inside("key", "set", "build", "--tpm", "0", "--max-concurrency", "2").out
    assert said.endswith("may ask for: 60 requests a minute, 2 at a time\n")
    assert inside("key", "set", "build", "--rpm", "-1").code == 2
    refused = inside("key", "create", "metrics", "--role", "metrics", "--rpm", "1")
    assert (refused.code, "leave its limits out" in refused.err) == (2, True)
    inside("key", "set", "build", "--rpm", "0", "--max-concurrency", "0")
    assert "limits       no limit\n" in inside("key", "show", "build").out
    with State(home.state) as state:
        assert state.keys.get("build").caps is NO_CAPS
