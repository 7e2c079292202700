"""The frameworks themselves, as docs/frameworks.md has it, and the example with two vendors."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from e2e.parties import SandboxProcess, tokenferry, write_config
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "frameworks.md"


@pytest.fixture(autouse=True)
def _key(home: Home, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "false")
    monkeypatch.setenv("TOKENFERRY_HOME", str(home.path))
    added = tokenferry("account", "add", "dave", "--provider", "sandbox", stdin=sandbox.api_key("dave"))
    assert added.code == 0, added.err


def test_the_recipes_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), scope)
        assert "you said: Hello" in capsys.readouterr().out


def test_the_example_asks_two_vendors(
    home: Home, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = f"""
[[providers]]
name = "sandbox"
base_url = "{sandbox.url}"
[[providers]]
name = "other"
provider_type = "openai"
base_url = "{sandbox.url}/v1"
"""
    write_config(home, tables)
    added = tokenferry("account", "add", "other", "--provider", "other", stdin=sandbox.api_key("carol"))
    assert added.code == 0, added.err
    monkeypatch.setattr(sys, "argv", ["two_vendors.py", "claude-sonnet-5-5", "other/gpt-5.1"])
    runpy.run_path(str(ROOT / "examples" / "two_vendors.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert len(re.findall(r"\d+ tokens read, \d+ written", shown)) == 2
