"""`account add --store anthropic-profile`: a profile of the official SDKs, attached and never written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.harness import Outcome
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

Inside = Callable[..., Outcome]


class Profiles:
    """Profiles that `ant` made at the sandbox."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.path = path
        self.sandbox = sandbox

    def write(self, name: str = "default", expires_in: int = 3600, **authentication: Any) -> dict[str, Any]:
        issued = self.sandbox.issue("alice", expires_in=expires_in)
        given = {"type": "user_oauth", "client_id": "ant", **authentication}
        self._put("configs", name, {"authentication": given, "base_url": self.sandbox.url})
        keys = ("access_token", "refresh_token", "expires_at")
        self._put("credentials", name, {key: issued[key] for key in keys})
        return issued

    def _put(self, folder: str, name: str, fields: dict[str, Any]) -> None:
        path = self.path / folder / f"{name}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps(fields))
        path.chmod(0o600)

    def content(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()}


@pytest.fixture
def profiles(sandbox: Sandbox) -> Profiles:
    return Profiles(Path(os.environ["HOME"]) / ".config" / "anthropic", sandbox)


def attach(inside: Inside, name: str = "mine", *more: str) -> Outcome:
    return inside("account", "add", name, "--store", "anthropic-profile", "--provider", "sandbox", *more)


def test_the_active_profile_is_attached_and_its_token_used(profiles: Profiles, inside: Inside, home: Home) -> None:
    issued = profiles.write()
    before = profiles.content()
    assert attach(inside).out.startswith("attached account mine to the login of anthropic-profile")
    assert inside("token", "mine", "--min-ttl", "0").out.strip() == issued["access_token"]
    [row] = inside("account", "list", "--json").json
    assert (row["owner"], row["store"], row["state"]) == ("ant", "anthropic-profile", "fresh")
    base_url = json.loads((profiles.path / "configs" / "default.json").read_text())["base_url"]
    assert row["labels"] == {"profile": "default", "config_dir": str(profiles.path), "base_url": base_url}
    assert profiles.content() == before
    assert "sk-ant" not in "".join(path.read_text() for path in home.attached.iterdir())


def test_the_active_one_is_the_one_the_sdks_take(
    profiles: Profiles, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles.write("pointed")
    profiles.write("named")
    (profiles.path / "active_config").write_text("pointed\n")
    attach(inside, "one")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "named")
    attach(inside, "two")
    labels = [row["labels"]["profile"] for row in inside("account", "list", "--json").json]
    assert labels == ["pointed", "named"]


def test_several_profiles_are_attached_each_once(profiles: Profiles, inside: Inside) -> None:
    profiles.write("a")
    profiles.write("b")
    assert attach(inside, "one", "--profile", "a").code == 0
    assert attach(inside, "two", "--profile", "b").code == 0
    outcome = attach(inside, "three", "--profile", "a")
    assert outcome.code == 2
    assert "account 'one' is attached to that login already" in outcome.one_line()


def test_it_is_never_refreshed_and_its_owner_is_named(profiles: Profiles, inside: Inside, sandbox: Sandbox) -> None:
    profiles.write("a", expires_in=-60)
    attach(inside, "mine", "--profile", "a")
    for command in (["token", "mine"], ["refresh", "mine"]):
        outcome = inside(*command)
        assert outcome.code == 5
        assert "owned by ant" in outcome.one_line()
        assert "ant auth login --profile a" in outcome.one_line()
    assert inside("account", "list", "--json").json[0]["text"] == "expired; ant refreshes it"
    assert sandbox.counters()["accounts"]["alice"]["refreshes"] == 0
    fresh = profiles.write("a")
    assert inside("token", "mine", "--min-ttl", "0").out.strip() == fresh["access_token"]


def test_who_rotates_a_profile_without_a_client_isnt_known(profiles: Profiles, inside: Inside) -> None:
    profiles.write(expires_in=-60, client_id="")
    attach(inside)
    assert inside("account", "list", "--json").json[0]["owner"] == "external"
    assert "renew it in the program that it comes from" in inside("token", "mine").one_line()


def test_a_token_goes_to_no_other_host_than_the_profiles(profiles: Profiles, inside: Inside) -> None:
    profiles.write()
    outcome = inside("account", "add", "mine", "--store", "anthropic-profile")
    assert outcome.code == 2
    assert "provider 'console' is another host; name with --provider one of: sandbox" in outcome.one_line()


def test_without_a_profile_the_login_command_is_reported(profiles: Profiles, inside: Inside) -> None:
    outcome = attach(inside, "mine", "--profile", "work")
    assert outcome.code == 5
    assert "ant auth login --profile work" in outcome.one_line()
    assert inside("account", "list", "--json").json == []


def test_a_profile_of_our_own_is_not_attached(profiles: Profiles, inside: Inside, login: Callable[..., Any]) -> None:
    login()
    inside("profile", "publish", "work")
    assert "was published by tokenferry" in attach(inside).one_line()


def test_removing_the_account_leaves_the_profile(profiles: Profiles, inside: Inside) -> None:
    profiles.write()
    before = profiles.content()
    attach(inside)
    assert inside("account", "remove", "mine", "--yes").code == 0
    assert profiles.content() == before


@pytest.mark.parametrize(
    ("client_id", "provider"),
    [("ant", "console"), ("", "anthropic")],
)
def test_a_token_of_an_unknown_kind_counts_as_a_subscriptions(
    profiles: Profiles, inside: Inside, client_id: str, provider: str
) -> None:
    profiles.write(client_id=client_id)
    path = profiles.path / "configs" / "default.json"
    fields = json.loads(path.read_text())
    del fields["base_url"]
    path.write_text(json.dumps(fields))
    outcome = inside("account", "add", "mine", "--store", "anthropic-profile")
    assert inside("account", "list", "--json").json[0]["provider"] == provider
    assert ("billed to a Claude subscription" in outcome.err) == (provider == "anthropic")
    assert inside("token", "mine", "--min-ttl", "0").code == (7 if provider == "anthropic" else 0)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--profile", "a"], "--profile needs --store anthropic-profile"),
        (["--store", "anthropic-profile", "--replace"], "leave out --kind and --replace"),
        (["--store", "anthropic-profile", "--profile", "../a"], "must not begin with a dot"),
        (["--store", "anthropic-profile", "--provider", "nowhere", "--profile", "a"], "there is no provider 'nowhere'"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(profiles: Profiles, inside: Inside, more: list[str], word: str) -> None:
    profiles.write("a")
    outcome = inside("account", "add", "mine", *more)
    assert outcome.code in {2, 4}
    assert word in outcome.one_line()


def test_a_profile_that_now_is_for_another_host_is_not_used(profiles: Profiles, inside: Inside) -> None:
    """Its token would go to the host it was attached for."""
    issued = profiles.write()
    attach(inside)
    config = profiles.path / "configs" / "default.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_url": "https://llm.example"}))
    outcome = inside("token", "mine", "--min-ttl", "0")
    assert outcome.code == 3
    assert "is for https://llm.example now; remove it with: tokenferry account remove mine" in outcome.one_line()
    assert outcome.hides(issued["access_token"])
    assert inside("account", "remove", "mine", "--yes").code == 0


def test_one_of_another_host_is_imported_by_its_path_as_one_of_that_hosts_provider(
    profiles: Profiles, inside: Inside
) -> None:
    profiles.write()
    found = inside("import")
    assert "import it by its path with --provider P" in found.out
    path = str(profiles.path / "credentials" / "default.json")
    outcome = inside("import", path, "--provider", "sandbox", "--name", "mine", "--yes")
    *_, done, serves = outcome.out.splitlines()
    assert done.startswith("attached account mine")
    assert serves == "account mine serves as 1 of 1 at sandbox"
    assert inside("account", "list", "--json").json[0]["owner"] == "ant"


def test_it_can_not_be_moved_and_that_is_said_of_it(profiles: Profiles, inside: Inside) -> None:
    profiles.write()
    attach(inside)
    outcome = inside("claude-code", "switch", "mine")
    assert outcome.code == 2
    assert "is stored in the login of anthropic-profile" in outcome.one_line()
