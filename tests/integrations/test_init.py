import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenferry
from tokenferry import integrations
from tokenferry.errors import UsageError
from tokenferry.settings import Home


def test_a_library_is_imported_only_when_it_is_asked_for() -> None:
    script = (
        "import sys, tokenferry\n"
        "tokenferry.auth, tokenferry.anthropic_credentials, tokenferry.openai_api_key\n"
        "print([name for name in ('httpx2', 'anthropic', 'openai', 'asyncio') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_tokenferry_imports_nothing_that_is_slow() -> None:
    script = "import sys; known = set(sys.modules); import tokenferry; print(*(set(sys.modules) - known))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "tokenferry\n"


@pytest.mark.parametrize(
    ("make", "command"),
    [
        (tokenferry.anthropic_credentials, r"pip install 'anthropic>=2\.11'"),
        (tokenferry.async_anthropic_credentials, r"pip install 'anthropic>=2\.11'"),
        (tokenferry.anthropic, r"pip install 'anthropic>=2\.11'"),
        (tokenferry.async_openai, r"pip install 'openai>=3'"),
        (tokenferry.genai, r"pip install 'google-genai>=3\.6'"),
    ],
)
def test_a_missing_sdk_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, home: Home, make: Callable[[], object], command: str
) -> None:
    monkeypatch.setattr(integrations, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=command):
        make()


def test_the_oldest_sdks_are_those_of_the_extras() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = {name: f"{name}>={oldest}" for name, oldest in integrations.OLDEST_SDKS.items()}
    assert {name: [one] for name, one in extras.items()}.items() <= project["optional-dependencies"].items()
