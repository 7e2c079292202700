"""What the pages for users show of a configuration can be used as it stands there."""

import re
from pathlib import Path

import pytest

from config.written import Write
from tokenferry.providers import presets

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    (name, text)
    for name in ("docs/routing.md", "docs/providers.md", "README.md")
    for text in re.findall(r"```toml\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_can_be_used(write: Write, name: str, text: str) -> None:
    """The providers that an example is about, and doesn't show, are added; a rule's target too."""
    named = set(re.findall(r'provider = "([^"]+)"', text)) - set(re.findall(r'^name = "([^"]+)"', text, re.MULTILINE))
    more = "".join(f'\n[[providers]]\nname = "{one}"\n' for one in sorted(named))
    config = write(text + more, dict.fromkeys(re.findall(r'"\$(\w+)"', text), "k"))
    assert not config.warnings


def test_the_page_of_providers_lists_every_preset_as_it_is() -> None:
    page = (ROOT / "docs/providers.md").read_text()
    for preset in presets().values():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{preset.name}`")]
        assert f"`{preset.base_url}`" in line
        assert ("Bearer" in line) is (preset.key_header == "authorization")
        assert ("second hand" in line) is preset.second_hand
