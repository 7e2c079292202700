"""The pages that the site makes from the code have all of it."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import tokenferry
from tokenferry import errors
from tokenferry.admin._operations import OPERATIONS
from tokenferry.cli._app import COMMANDS
from tokenferry.limits._rules import RULES
from tokenferry.providers import presets

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def headings(page: str) -> list[str]:
    return HEADING.findall(re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))


def test_every_command_has_a_heading_and_its_options(reference: ModuleType) -> None:
    page = reference.commands()
    assert {f"tokenferry {name}" for name in COMMANDS} <= set(headings(page))
    assert "tokenferry claude-code switch" in headings(page)
    assert "| `--min-ttl SECONDS` | Refresh a token that expires sooner. [default: 600; x>=0] |" in page


def test_every_operation_name_preset_and_rule_has_its_entry(reference: ModuleType) -> None:
    assert {f"{one.method} {one.path}" for one in OPERATIONS} <= set(headings(reference.rest()))
    assert set(tokenferry.__all__) <= set(headings(reference.library()))
    assert all(f"| `{name}` |" in reference.preset_table() for name in presets())
    assert reference.limit_rules().count("\n| ") == len(RULES) + 1 + 2
    assert "| `5` |" in reference.codes()


def test_the_metrics_are_those_of_the_page_about_them(reference: ModuleType) -> None:
    """The page writes histograms and counters with their suffixes."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition("\n## Metrics")[2]
    ours = set(re.findall(r"`(tokenferry_\w+)`", reference.metric_names()))
    assert ours - set(re.findall(r"tokenferry_[a-z_]*[a-z]", page)) == set()
    assert len(ours) > 30


def test_every_error_that_is_raised_is_on_the_page_for_troubleshooting(reference: ModuleType) -> None:
    """By its class, and by the sentence that a user would paste."""
    page = reference.troubleshooting()
    built = {"InvalidFields"}  # of sentences that are made elsewhere
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    raised = {name for name in errors.__all__ if re.search(rf"raise {name}\(", sources)}
    assert len(raised) > 20
    assert raised - built - set(headings(page)) == set()
    assert "was copied here from another machine" in page
