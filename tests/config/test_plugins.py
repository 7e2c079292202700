import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenferry.config import Config, load
from tokenferry.errors import ConfigError
from tokenferry.limits import classify
from tokenferry.settings import Home
from wheels import build_wheel

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme-provider"
DECLARED = """
[[providers]]
name = "acme"
base_url = "https://api.acme.example"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package that holds these files, where this process looks for packages."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, declaration: str | None) -> None:
        folder = site / name.replace("-", "_")
        folder.mkdir()
        record = [f"{folder.name}/__init__.py,,"]
        (folder / "__init__.py").write_text("raise AssertionError('imported')")
        if declaration is not None:
            (folder / "tokenferry.toml").write_text(declaration)
            record.append(f"{folder.name}/tokenferry.toml,,")
        information = site / f"{folder.name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "RECORD").write_text("\n".join(record))

    return install


def loaded(home: Home, *enabled: str, more: str = "") -> Config:
    home.config.touch(0o600)
    home.config.write_text(f"[plugins]\nenabled = {list(enabled)}\n{more}")
    return load(home.config)


def test_a_package_that_is_named_declares_its_provider(home: Home, install: Install) -> None:
    install("acme-x", DECLARED)
    config = loaded(home, "acme-x")
    assert config.providers["acme"].base_url == "https://api.acme.example"
    assert [path.name for path in config.files] == ["tokenferry.toml"]


def test_a_package_that_is_not_named_is_not_looked_at(home: Home, install: Install) -> None:
    install("acme-x", DECLARED)
    assert "acme" not in loaded(home).providers


def test_config_toml_changes_and_derives_from_a_packages_provider(home: Home, install: Install) -> None:
    install("acme-x", DECLARED)
    more = (
        '[[providers]]\nname = "acme"\nbase_url = "https://eu.acme.example"\n'
        '[[providers]]\nname = "second"\nprovider_type = "acme"\n'
    )
    config = loaded(home, "acme-x", more=more)
    assert config.providers["acme"].base_url == "https://eu.acme.example"
    assert config.providers["second"].base_url == "https://api.acme.example"


def test_the_package_of_the_example_is_built_installed_and_used(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(tmp_path, EXAMPLE)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True)
    monkeypatch.syspath_prepend(str(site))
    config = loaded(home, "tokenferry-acme")
    provider = config.providers["acme"]
    assert provider.wire_format == "openai"
    assert dict(provider.quirks)["max_field"] == "max_completion_tokens"
    assert provider.headers == (("x-acme-client", "tokenferry"),)
    body = b'{"error": {"code": "quota_exhausted", "message": "no"}}'
    rules = config.limit_rules["acme"]
    found = classify(403, {}, body, now=0.0, provider_format="openai", rules=rules)
    assert (found.cause, found.action, found.hold) == ("quota", "fail-over", "hour")
    assert classify(403, {}, b"{}", now=0.0, provider_format="openai", rules=rules).cause != "quota"
    assert "tokenferry_acme" not in sys.modules


@pytest.mark.parametrize(
    ("declaration", "says"),
    [
        (None, "has no tokenferry.toml"),
        ("[", "is not valid TOML"),
        ("[server]\nport = 1\n", "holds something besides"),
        ("providers = 1\n", "holds something besides"),
        ('[[providers]]\nbase_url = "https://a.example"\n', "can't be used"),
        ('[[providers]]\nname = "acme"\n', "can't be used"),
        ('[[providers]]\nname = "anthropic"\nbase_url = "https://a.example"\n', "is built in"),
        ('[[providers]]\nname = "groq"\nbase_url = "https://a.example"\n', "is built in"),
        ('[[providers]]\nname = "acme"\nbase_url = "https://api.anthropic.com"\n', "is built in"),
        ('[[providers]]\nname = "acme"\nbase_url = "https://api.openai.com/v1"\n', "is built in"),
        (DECLARED + 'api_key = "$HOME"\n', "declares api_key"),
        (DECLARED + 'command = ["id"]\n', "declares command"),
        (DECLARED + "passthrough = true\n", "declares passthrough"),
        (DECLARED + "[providers.oauth]\n", "declares oauth"),
        (DECLARED + '[providers.headers]\nauthorization = "x"\n', "begins with x-"),
        (DECLARED + '[providers.headers]\nx-api-key = "x"\n', "is not a credential"),
        (DECLARED + '[providers.headers]\nuser-agent = "claude-cli"\n', "begins with x-"),
        (DECLARED + '[providers.headers]\nx-a = "b\\r\\nc: d"\n', "begins with x-"),
        (
            DECLARED + "[providers.quirks]\nmax_field = 1\n",
            "can't be used: provider 'acme': quirks.max_field must be text",
        ),
        (DECLARED + "[providers.quirks]\nold = 1\n", "quirks has an unknown key, old"),
        (DECLARED + "[[providers.limits]]\nstatuses = [403]\n", "limits[0] lacks cause"),
        (DECLARED + "[providers.headers]\nx-a = 1\n", "headers (each value) must be text"),
        (
            DECLARED + '[[providers.limits]]\nstatuses = [403]\ncause = "a"\nreason = "b"\naction = "x"\n',
            "limits[0].action has a value that isn't known",
        ),
    ],
)
def test_a_faulty_declaration_is_a_fault_of_the_line_that_names_it(
    home: Home, install: Install, declaration: str | None, says: str
) -> None:
    install("acme-x", declaration)
    with pytest.raises(ConfigError) as caught:
        loaded(home, "acme-x")
    (problem,) = caught.value.problems
    assert problem.startswith("line 2: plugins.enabled names 'acme-x', which ")
    assert says in problem


def test_a_package_that_is_not_installed_says_how_to_install_it(home: Home) -> None:
    with pytest.raises(ConfigError, match="pip install no-such-package"):
        loaded(home, "no-such-package")


def test_two_packages_with_one_provider_are_a_fault(home: Home, install: Install) -> None:
    install("acme-x", DECLARED)
    install("acme-y", DECLARED)
    with pytest.raises(ConfigError, match="two packages that declare 'acme'"):
        loaded(home, "acme-x", "acme-y")


def test_a_rules_own_text_is_no_pattern(home: Home, install: Install) -> None:
    row = '[[providers.limits]]\nstatuses = [400]\nsays = "no (more) {credit}"\ncause = "c"\nreason = "no {credit}"\n'
    install("acme-x", DECLARED + row)
    rules = loaded(home, "acme-x").limit_rules["acme"]
    body = b'{"error": {"message": "no (more) {credit} today"}}'
    found = classify(400, {}, body, now=0.0, provider_format="anthropic", rules=rules)
    assert (found.cause, found.reason) == ("c", "no {credit}")
