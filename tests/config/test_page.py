"""docs/config.md has every key there is, as it is declared."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from tokenferry.config import SECTIONS, examine_content

ROOT = Path(__file__).parents[2]
EVERYTHING = b"""
[[providers]]
name = "idp"
base_url = "https://x.example"
[providers.token_exchange]
url = "https://x.example/t"
headers = { authorization = "{token}" }
[[models]]
name = "glm"
[[models.mappings]]
provider = "idp"
[[router.rules]]
model = "glm"
requested = "x"
[accounts.work]
max_concurrency = 1
[[prices]]
model = "glm"
[[budgets]]
limit = "1usd/day"
"""


def test_the_tables_of_the_page_are_made_from_the_declarations() -> None:
    spec = spec_from_file_location("config_page", ROOT / "scripts" / "config_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.PAGE.read_text()
    assert script.page(text) == text, "run: .venv/bin/python scripts/config_page.py"
    assert [section.header for section in SECTIONS if f"<!-- keys: {section.header} -->" not in text] == []


def test_every_key_that_is_read_is_declared_in_its_section_and_the_other_way_round() -> None:
    examined = examine_content(EVERYTHING, Path("/x/config.toml"), environ={})
    assert examined.problems == ()
    read = {
        (tuple(step for step in setting.table if isinstance(step, str)), setting.key.name)
        for setting in examined.settings.values()
        if setting.is_in_document
    }
    hidden = {(("providers",), "oauth_provider")}
    declared = {
        (tuple("work" if step == "NAME" else step for step in section.path), key.name)
        for section in SECTIONS
        for key in section.keys
    }
    assert read - hidden == declared
