"""Write the tables of docs/config.md from the declared configuration keys."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tokenferry.config import SECTIONS, Section  # this tree's package, not an installed one
from tokenferry.config_key import ConfigKey  # as above

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
_TABLE = re.compile(r"(?<=<!-- keys: )(\S+) -->\n.*?(?=<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with up-to-date tables, each between `<!-- keys: SECTION -->` and `<!-- end -->`."""
    sections = {section.header: section for section in SECTIONS}
    return _TABLE.sub(lambda found: f"{found[1]} -->\n{_table(sections[found[1]])}", text)


def _table(section: Section) -> str:
    rows = [f"| `{key.name}` | {_default(key)} | {_sentence(key)} |" for key in section.keys]
    return "\n".join(["", "| key | default | |", "|---|---|---|", *rows, "\n"])


def _default(key: ConfigKey) -> str:
    if key.example is not None:
        return f"none; such as `{key.example}`"
    return f"`{key.toml_default}`"


def _sentence(key: ConfigKey) -> str:
    choices = " " + ", ".join(f"`{choice}`" for choice in key.choices) + "." if key.choices else ""
    return (key.sentence + choices).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
