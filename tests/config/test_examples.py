"""Each example of the documentation loads, and means what it says."""

import re
from pathlib import Path

import pytest

from tokenferry.config import Config, load
from tokenferry.providers import Provider, builtin_providers

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.toml"))


def loaded(name: str, folder: Path) -> Config:
    path = folder / "config.toml"
    path.write_bytes((EXAMPLES / f"{name}.toml").read_bytes())
    path.chmod(0o600)
    return load(path, environ={"WORK_ANTHROPIC_KEY": "sk-ant-api03-" + "k" * 60})


def provider(name: str, example: str, folder: Path) -> Provider:
    return loaded(example, folder).providers[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_without_a_word(name: str, tmp_path: Path) -> None:
    assert loaded(name, tmp_path).warnings == ()


def test_the_guide_names_every_example() -> None:
    text = (DOCS / "credentials.md").read_text() + (DOCS / "login.md").read_text()
    assert set(re.findall(r"examples/([a-z-]+)\.toml", text)) == set(NAMES)


def test_a_key_in_a_variable_makes_an_account(tmp_path: Path) -> None:
    assert set(loaded("api-key", tmp_path).keys) == {"anthropic"}


def test_a_workloads_parameters_can_be_the_providers(tmp_path: Path) -> None:
    anthropic = provider("anthropic", "workload-identity", tmp_path)
    assert dict(anthropic.oauth.federation_parameters).keys() == {"federation_rule_id", "organization_id"}
    assert anthropic.endpoints.federation_url == "https://api.anthropic.com/v1/oauth/token"
    assert not anthropic.subscription


def test_servers_of_ones_own_are_standard_ones(tmp_path: Path) -> None:
    public, secret = (provider("idp", name, tmp_path) for name in ("own-server", "client-secret"))
    assert public.oauth.client_secret_file is None
    assert secret.oauth.client_secret_file
    for one in (public, secret, provider("tv", "device", tmp_path)):
        assert one.oauth.client_id
        assert one.oauth.token_body == "form"
        assert not one.subscription


def test_a_server_for_devices_alone_has_no_page_to_log_in_at(tmp_path: Path) -> None:
    oauth = provider("tv", "device", tmp_path).oauth
    assert oauth.device_authorization_endpoint
    assert oauth.authorization_endpoint is None


def test_an_enterprises_logins_go_to_its_own_host(tmp_path: Path) -> None:
    corp = provider("corp", "enterprise", tmp_path)
    assert corp.endpoints.authorization_endpoint == "https://login.corp.example.com/oauth/authorize"
    assert corp.endpoints.token_endpoint == "https://login.corp.example.com/v1/oauth/token"
    assert not corp.uses_vendors_client


@pytest.mark.parametrize("name", ["subscription", "claude-code-mux"])
def test_subscriptions_stay_under_the_policy(name: str, tmp_path: Path) -> None:
    config = loaded(name, tmp_path)
    assert config.policy.subscriptions == ("own-use" if name == "subscription" else "claude-code-only")
    assert config.providers["claude-max"].subscription
    assert config.providers["claude-max"].endpoints == builtin_providers()["claude-max"].endpoints


def test_the_mux_login_is_the_account_it_names(tmp_path: Path) -> None:
    assert provider("claude-max", "claude-code-mux", tmp_path).accounts == ("anthropic-max",)
