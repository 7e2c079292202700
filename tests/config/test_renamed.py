"""Keys of former times: four still count, each other one is one fault that names today's."""

import pytest

from config.written import Write, problems
from tokenferry.config._renamed import RENAMED
from tokenferry.config_key import keys_of
from tokenferry.oauth import OAuthEndpoints
from tokenferry.providers import Provider
from tokenferry.settings import AccountSettings, Caps, RuleSettings

PROVIDER = '[[providers]]\nname = "mine"\nbase_url = "https://llm.example"\n'
MODEL = '[[models]]\nname = "glm"\nmappings = [{ provider = "mine" }]\n'
RULE = '[[router.rules]]\nmodel = "glm"\nkeys = ["guest"]\n'


def written(former: str) -> str:
    """A file that is good but for one former key."""
    section, _, key = former.replace("NAME", "work").rpartition(".")
    line = f"{key} = 1\n" if former != "pool.accounts" else "[pool.accounts.work]\nrate = 1\n"
    match section:
        case "providers":
            return f"{PROVIDER}{line}"
        case "providers.oauth":
            return f"{PROVIDER}[providers.oauth]\n{line}"
        case "router.rules":
            return f"{PROVIDER}{MODEL}{RULE}{line}"
        case _:
            return f"[{section}]\n{line}"


@pytest.mark.parametrize("former", RENAMED)
def test_a_former_key_is_one_fault_that_names_the_one_of_today(write: Write, former: str) -> None:
    (problem,) = problems(write, written(former))
    assert problem.endswith(f"{former.rpartition('.')[2]} is now {RENAMED[former]}")


def test_what_a_former_key_is_now_exists(write: Write) -> None:
    tables = {
        "accounts.NAME": (AccountSettings,),
        "providers": (Provider, Caps),
        "providers.oauth": (OAuthEndpoints,),
        "router.rules": (RuleSettings,),
    }
    for former, now in RENAMED.items():
        section = former.rpartition(".")[0]
        if section in tables:
            assert any(now.partition(",")[0] in keys_of(table) for table in tables[section])
        elif former != "pool.accounts":
            table, _, key = now.partition(",")[0].partition(".")
            value = '"text"' if now == "log.format" else '"1s"' if key.endswith("timeout") else 1
            reported = problems(write, f"[{table}]\n{key} = {value}\nno_such_key = 1\n")
            assert [problem for problem in reported if f"{key} is" in problem and "no key" in problem] == []


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ('[gateway]\naccount = "work"', '[router]\naccount = "work"'),
        (f'{PROVIDER}[gateway]\nproviders = ["mine"]', f'{PROVIDER}[router]\nproviders = ["mine"]'),
        ('[policy]\nsubscription = "own"', '[policy]\nsubscriptions = "own-use"'),
        ('[policy]\nsubscription = "off"', '[policy]\nsubscriptions = "claude-code-only"'),
        (
            f'{PROVIDER}[providers.oauth]\ntoken_url = "https://a.example"',
            f'{PROVIDER}[providers.oauth]\ntoken_endpoint = "https://a.example"',
        ),
        ('[server]\nlog_level = "warn"', '[log]\nlevel = "warning"'),
        (
            "[server.timeouts]\nconnect_timeout_ms = 2500\napi_timeout_ms = 60000",
            '[upstream]\nconnect_timeout = "2500ms"\nresponse_timeout = "1m"',
        ),
    ],
)
def test_a_spelling_that_still_counts_means_the_same(write: Write, former: str, now: str) -> None:
    assert write(former) == write(now)
    assert not write(former).warnings


@pytest.mark.parametrize(
    "text",
    [
        '[gateway]\naccount = "a"\n[router]\naccount = "b"',
        '[policy]\nsubscription = "own"\nsubscriptions = "claude-code-only"',
        '[server]\nlog_level = "info"\n[log]\nlevel = "debug"',
        "[server.timeouts]\napi_timeout_ms = 1\n[upstream]\nresponse_timeout = 1",
    ],
)
def test_both_spellings_at_once_are_a_fault(write: Write, text: str) -> None:
    (problem,) = problems(write, text)
    assert "say the same thing; keep the latter" in problem


@pytest.mark.parametrize("value", ['"none"', '"OWN-USE"', '"Own"', "true", '""', '["own-use"]'])
@pytest.mark.parametrize("key", ["subscription", "subscriptions"])
def test_a_policy_that_is_not_known_is_a_fault(write: Write, key: str, value: str) -> None:
    (problem,) = problems(write, f"[policy]\n{key} = {value}")
    assert problem == f"policy.{key} must be one of claude-code-only, own-use"
