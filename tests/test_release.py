"""What `make release` says of a release: its version, what is in it, and why."""

import json
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import tokenferry

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == tokenferry.__version__
    assert f"| {re.sub(r'.[0-9]+$', '', tokenferry.__version__)} | yes |" in (ROOT / "SECURITY.md").read_text()


def test_the_changelog_has_a_section_for_the_version(release: ModuleType) -> None:
    found = release.notes(tokenferry.__version__)
    assert "\n- " in found
    assert "\n## " not in found
    with pytest.raises(SystemExit, match=r"give it one: ## 9\.9"):
        release.notes("9.9")


def test_the_bill_of_materials_has_every_pin_and_who_needs_it(release: ModuleType) -> None:
    bill = json.loads(release.bill_of_materials("9.9", b"wheel", 1_790_000_000))
    assert bill == json.loads(release.bill_of_materials("9.9", b"wheel", 1_790_000_000))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    pinned = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE)
    assert [(one["name"], one["version"]) for one in bill["components"]] == sorted(pinned)
    assert all(one["properties"] for one in bill["components"])
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert len(needs["pkg:pypi/tokenferry@9.9"]) == len(PROJECT["dependencies"])
    reached, waiting = set(), ["pkg:pypi/tokenferry@9.9"]
    while waiting:
        reached.add(one := waiting.pop())
        waiting += set(needs[one]) - reached
    known = {one["bom-ref"] for one in bill["components"] if one.get("licenses")}
    assert known <= reached, "a package that nothing needs"


def test_every_dependency_is_justified(release: ModuleType) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    direct = [re.match(r"[\w-]+", one)[0] for one in PROJECT["dependencies"]]  # type: ignore[index]  # each has a name
    assert re.findall(r"^\| `([\w-]+)` \|", page.partition("\n## ")[0], re.MULTILINE) == direct
