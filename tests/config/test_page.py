"""docs/config.md names every setting there is."""

import re
from pathlib import Path

from tokenferry.config import examine_content

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
EVERYTHING = b"""
[[providers]]
name = "idp"
base_url = "https://x.example"
[[models]]
name = "glm"
[[models.mappings]]
provider = "idp"
[[router.rules]]
model = "glm"
requested = "x"
[pool.accounts.work]
rate = 1
"""


def test_every_setting_is_on_the_page_in_its_section() -> None:
    examined = examine_content(EVERYTHING, Path("/x/config.toml"), environ={})
    assert examined.problems == ()
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    missing = []
    for path, setting in examined.settings.items():
        head = path.split(".", 1)[0]
        texts = [text for text in sections if f"[{head}]" in text.partition("\n")[0]]
        assert texts, head
        named = rf"`[^`\n]*\b{re.escape(setting.key)}\b[^`\n]*`"
        if not any(re.search(named, text) for text in texts):
            missing.append(path)
    assert missing == []
