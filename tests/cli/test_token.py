import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import configure
from cli.documents import ACCESS, document, put
from cli.harness import COMMAND, Outcome, begin, bundle, end, tokenferry
from leaks import shows
from tokenferry.credentials import ApiKey
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration, local_key
from tokenferry.stores import Account, Document, FileStore

Login = Callable[..., dict[str, Any]]
Inside = Callable[..., Outcome]


def grants(sandbox: Sandbox, account: str = "alice") -> int:
    return int(sandbox.counters()["accounts"][account]["refreshes"])


def test_a_fresh_token_is_printed_and_nothing_else(sandbox: Sandbox, login: Login) -> None:
    issued = login()
    assert tokenferry("token") == Outcome(0, f"{issued['access_token']}\n", "")
    assert tokenferry("token", "--account", "work") == Outcome(0, f"{issued['access_token']}\n", "")
    assert grants(sandbox) == 0


def test_an_expired_token_is_renewed_once_and_then_fresh(sandbox: Sandbox, login: Login) -> None:
    issued = login(expires_in=-3600)
    first = tokenferry("token")
    assert (first.code, first.err) == (0, "")
    assert first.out.strip() != issued["access_token"]
    assert tokenferry("token") == first
    assert grants(sandbox) == 1


def test_min_ttl_asks_for_a_longer_life(sandbox: Sandbox, login: Login) -> None:
    issued = login(expires_in=1200)
    assert tokenferry("token").out.strip() == issued["access_token"]
    assert tokenferry("token", "--min-ttl", "1800").out.strip() != issued["access_token"]
    assert grants(sandbox) == 1


def test_fifty_processes_make_one_grant_and_get_one_token(sandbox: Sandbox, login: Login) -> None:
    login(expires_in=-3600)
    processes = [begin("token") for _ in range(50)]
    outcomes = {end(process) for process in processes}
    assert len(outcomes) == 1
    (outcome,) = outcomes
    assert outcome.code == 0
    assert outcome.out.startswith("sk-ant-oat01-")
    assert grants(sandbox) == 1
    assert sandbox.counters()["totals"]["reuses"] == 0


def test_a_living_token_that_can_not_be_renewed_is_printed_with_one_line_of_warning(
    sandbox: Sandbox, login: Login
) -> None:
    issued = login(expires_in=400)
    sandbox.fault("status", status=503, path="/v1/oauth/token", times=0)
    outcome = tokenferry("token")
    assert outcome.code == 0
    assert outcome.out == f"{issued['access_token']}\n"
    assert outcome.err.startswith("tokenferry: warning: the present token is used until it expires")
    assert outcome.err.count("\n") == 1


def test_several_accounts_and_none_chosen_is_an_unknown_name_that_lists_them(sandbox: Sandbox, login: Login) -> None:
    login("a")
    login("b", of="bob")
    outcome = tokenferry("token")
    assert outcome.code == 4
    assert "a, b" in outcome.one_line()
    assert tokenferry("token", TOKENFERRY_ACCOUNT="b").code == 0


def test_contradicting_names_are_a_usage_error(home: Home, inside: Inside) -> None:
    assert inside("token", "a", "--account", "b").code == 2
    assert inside("token", "a", "--gateway").code == 2
    assert inside("token", "--min-ttl", "-5").code == 2


def test_exit_3_a_configuration_that_can_not_be_used(home: Home, inside: Inside) -> None:
    configure(home, "http://127.0.0.1:1", "[sever]\nprot = 1\n")
    outcome = inside("token")
    assert outcome.code == 3
    assert "did you mean server?" in outcome.one_line()


def test_exit_4_no_account_of_that_name(home: Home, inside: Inside) -> None:
    assert "there is no account 'nobody'" in inside("token", "nobody").one_line()
    assert inside("token", "nobody").code == 4


def test_exit_5_needs_login(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    issued = login(expires_in=-60)
    sandbox.revoke("alice", "family")
    outcome = inside("token")
    assert outcome.code == 5
    assert "tokenferry login work" in outcome.one_line()
    assert outcome.hides(issued["refresh_token"])


def test_exit_6_try_later(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login(expires_in=-60)
    sandbox.fault("status", status=503, path="/v1/oauth/token", times=0)
    outcome = inside("token")
    assert outcome.code == 6
    assert "503" in outcome.one_line()
    sandbox.clear()
    assert inside("refresh").code == 0


def test_exit_6_uncertain(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login(expires_in=-60)
    sandbox.fault("lose_answer", path="/v1/oauth/token")
    assert inside("token").code == 6
    assert inside("account", "list", "--json").json[0]["state"] == "uncertain"


def test_exit_8_a_file_that_others_could_read(home: Home, sandbox: Sandbox, login: Login) -> None:
    login()
    path = home.accounts / "work.json"
    path.chmod(0o644)
    outcome = tokenferry("token")
    assert outcome.code == 8
    assert f"chmod 0600 '{path}'" in outcome.one_line()


def test_refresh_renews_now_and_tells_the_new_token_by_its_fingerprint(
    sandbox: Sandbox, login: Login, inside: Inside
) -> None:
    login()
    outcome = inside("refresh", "work", "--json")
    assert outcome.json["name"] == "work"
    assert grants(sandbox) == 1
    token = inside("token").out.strip()
    assert outcome.hides(token)
    assert inside("account", "show", "work", "--json").json["fingerprint"] == outcome.json["fingerprint"]
    assert inside("refresh").out.startswith("work  ")


def test_refresh_of_a_key_is_refused(home: Home, sandbox: Sandbox, inside: Inside) -> None:
    inside("account", "add", "dave", "--provider", "sandbox", stdin=sandbox.api_key("dave"))
    outcome = inside("refresh", "dave")
    assert (outcome.code, "tokenferry account check dave" in outcome.one_line()) == (2, True)


def test_the_gateways_own_key_is_made_once_and_printed(home: Home, registered: GatewayRegistration) -> None:
    first = tokenferry("token", "--gateway")
    assert first.code == 0
    assert first.out.startswith("tfk_")
    assert tokenferry("token", "--gateway") == first


def shell(text: str, *names: str) -> list[str]:
    """What a shell has in these variables after it has read the lines."""
    script = text + "".join(f'printf "%s\\0" "${name}"\n' for name in names)
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, check=True, env={})
    return done.stdout.split("\0")[:-1]


def test_env_names_the_variables_of_tokens_and_of_keys(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    token, key = login()["access_token"], sandbox.api_key("dave")
    inside("account", "add", "dave", "--provider", "sandbox", stdin=key)
    # The sandbox isn't where programs would send it by themselves.
    assert tokenferry("token", "work", "--env").out == (
        f"ANTHROPIC_AUTH_TOKEN={token}\nANTHROPIC_BASE_URL={sandbox.url}\n"
    )
    assert tokenferry("token", "dave", "--env").out == f"ANTHROPIC_API_KEY={key}\nANTHROPIC_BASE_URL={sandbox.url}\n"


def test_env_renews_first_like_the_plain_form(sandbox: Sandbox, login: Login) -> None:
    login(expires_in=-60)
    told = tokenferry("token", "--env").out
    assert shell(told, "ANTHROPIC_AUTH_TOKEN") == [tokenferry("token").out.strip()]
    assert grants(sandbox) == 1


def test_env_is_one_line_for_the_vendors_own_host(home: Home, inside: Inside) -> None:
    key = "sk-ant-api03-" + "k" * 40
    inside("account", "add", "work", "--provider", "anthropic", stdin=key)
    assert tokenferry("token", "--env").out == f"ANTHROPIC_API_KEY={key}\n"


@pytest.mark.parametrize("key", ["plain", "a'b", '"; exit 1; $(exit 1) `exit 1` #', "$HOME\\n", "~/*?[a]&|<>"])
def test_env_is_quoted_so_that_a_shell_reads_the_very_value(home: Home, key: str) -> None:
    configure(home, "http://127.0.0.1:1", '[[providers]]\nname = "my-llm.2"\nbase_url = "https://llm.invalid"\n')
    stored = Document(Account("work", "my-llm.2", "api-key"), ApiKey(Secret(key.replace(" ", ""))))
    FileStore(home).swap("work", None, stored)  # a command would refuse the quotes
    told = tokenferry("token", "--env").out
    assert shell(told, "MY_LLM_2_API_KEY") == [key.replace(" ", "")]


def test_env_uses_the_variable_that_a_provider_declares(home: Home, inside: Inside) -> None:
    declared = '[[providers]]\nname = "mine"\nbase_url = "https://llm.invalid"\nenv_var = "OPENAI_API_KEY"\n'
    configure(home, "http://127.0.0.1:1", declared)
    inside("account", "add", "work", "--provider", "mine", stdin="key-of-mine")
    assert tokenferry("token", "--env").out == "OPENAI_API_KEY=key-of-mine\n"


def test_json_tells_token_expiry_and_the_header_that_carries_it(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    token, key = login(expires_in=-60), sandbox.api_key("dave")
    inside("account", "add", "dave", "--provider", "sandbox", stdin=key)
    told = tokenferry("token", "work", "--json").json
    shown = inside("account", "show", "work", "--json").json
    assert told == {
        "token": tokenferry("token", "work").out.strip(),
        "expires_at": shown["expires_at"],
        "header": f"Authorization: Bearer {told['token']}",
    }
    assert told["token"] != token["access_token"]
    assert tokenferry("token", "dave", "--json").json == {
        "token": key,
        "expires_at": None,
        "header": f"x-api-key: {key}",
    }


@pytest.mark.parametrize("form", [(), ("--env",), ("--json",)])
def test_the_gateways_key_is_printed_only_while_a_gateway_of_this_home_runs(
    home: Home, inside: Inside, form: tuple[str, ...]
) -> None:
    """Whoever has taken its port would get the key."""
    key = local_key(home)
    outcome = inside("token", "--gateway", *form)
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.hides(key.reveal())
    assert outcome.one_line().endswith("start it with: tokenferry serve")


def test_a_gateways_socket_is_named_beside_its_address(home: Home, inside: Inside) -> None:
    path = home.path / "gateway.sock"
    for url, named in ((None, "http://gateway.local"), ("http://127.0.0.1:9", "http://127.0.0.1:9")):
        registration = GatewayRegistration(home, url=url, socket=path)
        lines = inside("token", "--gateway", "--env").out.splitlines()
        assert lines[1:] == [f"ANTHROPIC_BASE_URL={named}", f"ANTHROPIC_UNIX_SOCKET={path}"]
        registration.end()


def test_the_gateways_key_comes_in_the_same_forms_and_with_the_gateways_address(
    home: Home, registered: GatewayRegistration
) -> None:
    key = tokenferry("token", "--gateway").out.strip()
    assert tokenferry("token", "--gateway", "--json").json == {
        "token": key,
        "expires_at": None,
        "header": f"Authorization: Bearer {key}",
    }
    lines = [f"ANTHROPIC_AUTH_TOKEN={key}", "ANTHROPIC_BASE_URL=http://127.0.0.1:13456"]
    assert tokenferry("token", "--gateway", "--env").out.splitlines() == lines


def test_two_forms_at_once_are_a_usage_error(home: Home, inside: Inside) -> None:
    assert inside("token", "--env", "--json").code == 2


def test_the_log_of_a_renewal_shows_neither_the_old_nor_the_new_token(sandbox: Sandbox, login: Login) -> None:
    issued = login(expires_in=-60)
    done = subprocess.run([COMMAND, "-v", "token"], capture_output=True, text=True, check=True)
    assert not shows(done.stderr, issued["access_token"], issued["refresh_token"], done.stdout.strip())


@pytest.mark.parametrize("what", ["unreadable", "redirect", "huge"])
def test_an_odd_answer_of_the_token_endpoint_is_a_sentence(
    sandbox: Sandbox, login: Login, inside: Inside, what: str
) -> None:
    issued = login(expires_in=-60)
    sandbox.fault(what, path="/v1/oauth/token", **({"location": "/elsewhere"} if what == "redirect" else {}))
    outcome = inside("token")
    assert outcome.code == 6
    assert outcome.one_line()
    assert outcome.hides(issued["refresh_token"])


def test_a_login_of_another_kind_can_be_given_in_its_place(sandbox: Sandbox, login: Login, inside: Inside) -> None:
    login(expires_in=-60)
    sandbox.revoke("alice", "family")
    assert inside("token").code == 5
    again = sandbox.issue("alice")
    assert inside("account", "add", "work", "--replace", stdin=bundle(again)).code == 0
    assert inside("token").out.strip() == again["access_token"]


def test_a_key_is_printed_with_the_header_in_which_its_provider_takes_it(home: Home, inside: Inside) -> None:
    write = "[[providers]]\nname = 'other'\nprovider_type = 'openai'\nbase_url = 'https://x.example'\n"
    home.config.write_text(f"{write}api_key = '$OTHER_KEY'\nkey_header = 'authorization'\n")
    home.config.chmod(0o600)
    told = tokenferry("token", "other", "--json", OTHER_KEY="key-of-other-1234567890")
    assert told.code == 0, told.err
    assert told.json["header"] == "Authorization: Bearer key-of-other-1234567890"


def test_an_account_that_a_variable_picked_is_named_in_one_line(home: Home, inside: Inside) -> None:
    for name in ("a", "b"):
        put(home, document(time.time(), name=name), name)
    said = "tokenferry: TOKENFERRY_ACCOUNT selects account b\n"
    for more in ((), ("--verbose",)):  # what may be recalled, and the full path
        outcome = tokenferry(*more, "token", TOKENFERRY_ACCOUNT="b")
        assert (outcome.code, outcome.out, outcome.err) == (0, f"{ACCESS}\n", said)
    assert tokenferry("token", "a", TOKENFERRY_ACCOUNT="b").err == ""


def test_a_fault_elsewhere_in_the_configuration_costs_no_credential(home: Home, inside: Inside) -> None:
    put(home, document(time.time()))
    configure(home, "http://127.0.0.1:1", "[server]\nprot = 1\n")
    outcome = inside("token")
    assert (outcome.code, outcome.out) == (0, f"{ACCESS}\n")
    assert "has faults that don't concern account work; see them with: tokenferry config check" in outcome.err
    assert inside("serve").code == inside("run", "--", "true").code == 3
    home.config.write_text('[[providers]]\nname = "sandbox"\nbase_url = 5\n')
    outcome = inside("token")
    assert (outcome.code, outcome.out) == (3, "")
    assert "providers.sandbox.base_url" in outcome.err


def test_a_configuration_that_lies_elsewhere_is_used_and_written_there(
    home: Home, inside: Inside, tmp_path: Path
) -> None:
    put(home, document(time.time()))
    configure(home, "http://127.0.0.1:1")
    target = tmp_path / "dotfiles.toml"
    home.config.rename(target)
    home.config.symlink_to(target)
    assert inside("token").out == f"{ACCESS}\n"
    assert inside("config", "set", "server.port", "13999").code == 0
    assert home.config.is_symlink()
    assert "port = 13999" in target.read_text()
    assert inside("doctor").code == 0
