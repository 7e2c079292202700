"""What the pages for users show of a configuration can be used as it stands there."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest

from config.written import Write
from tokenferry.providers import presets

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^( *)```(toml|json|ini)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, dedent(text), id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (_, language, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_a_block_of_configuration_can_be_used(write: Write, tmp_path: Path, language: str, text: str) -> None:
    """What a block is about and doesn't show is added: providers, files of secrets, variables."""
    if language == "json":  # what another program reads, or a response
        assert json.loads(text)
        return
    named = set(re.findall(r'provider = "([^"]+)"', text)) - set(re.findall(r'^name = "([^"]+)"', text, re.MULTILINE))
    more = "".join(f'\n[[providers]]\nname = "{one}"\n' for one in sorted(named))
    for file in re.findall(r'_file = "([\w.]+)"', text):
        (tmp_path / file).write_text("a secret\n")
        (tmp_path / file).chmod(0o600)
    config = write(text + more, dict.fromkeys(re.findall(r'"\$(\w+)"', text), "k"))
    assert not config.warnings


def test_the_page_of_providers_lists_every_preset_as_it_is() -> None:
    page = (ROOT / "docs/providers.md").read_text()
    for preset in presets().values():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{preset.name}`")]
        assert f"`{preset.base_url}`" in line
        assert ("Bearer" in line) is (preset.key_header == "authorization")
        assert ("second hand" in line) is preset.second_hand
