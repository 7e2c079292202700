"""What the pages say of the code exists: files, modules and classes."""

import configparser
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tokenferry"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
ABOUT_CODE = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md", *ROOT.glob("docs/decisions/*.md")]

CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|toml)")
MODULE = re.compile(r"tokenferry(?:\.[a-z_]\w*)+")
CLASS = re.compile(r"(?<![\w.-])_?[A-Z]\w*[a-z]\w*(?![\w-])")
DEFINED = re.compile(r"^(?:class )?(\w+)(?:[:(].*)?(?:$| = )", re.MULTILINE)
FOLDER = re.compile(r"(?:src|tests|bench|docs|scripts)/[\w./-]+")
CLAIMS = re.compile(r"^\| (?:claim|promise) \| .*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)
TEST = re.compile(r"`((?:tests|bench)/[\w./-]+)(?:::(\w+))?`")

NO_PROSE = re.compile(
    r"<!-- (?:begin|keys)\b.*?<!-- end -->|<!--.*?-->|^```.*?^```|^ {4}[^\n]*|`[^`]*`", re.MULTILINE | re.DOTALL
)
"""What a script writes, comments and code."""
WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")

USERS_OWN = {"config.toml", "manage.py", "pyproject.toml"}
"""Files of a user's own, or beside the pages."""
OTHERS = {"AsyncClient", "BaseTransport", "OpenAI", "SystemExit"}
"""Classes of other packages, and headers."""
NO_MODULES = {"tokenferry.access", "tokenferry.log", "tokenferry.plist"}
"""A logger, and files."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in CODE.finditer(prose):
        yield found[1]


@cache
def defined() -> frozenset[str]:
    sources = (path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    return frozenset(found for text in sources for found in DEFINED.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [
        word
        for word in code(page)
        if (FILE.fullmatch(word) or FOLDER.fullmatch(word))
        and word not in USERS_OWN
        and not any((folder / word).exists() for folder in (ROOT, SOURCE, page.parent))
    ]
    assert not missing, (
        f"{name(page)} names files that don't exist: give their path from the root or from src/tokenferry"
    )


def test_every_page_is_linked_where_help_finds_it() -> None:
    links = sorted((SOURCE / "cli" / "pages").iterdir())
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [link.resolve() for link in links] == pages, "link each page: ln -s ../../../../docs/X.md in that folder"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "security.md"], ids=name)
def test_every_claim_names_a_test_that_exists(page: Path) -> None:
    rows = [row for table in CLAIMS.findall(page.read_text(encoding="utf-8")) for row in table.splitlines()]
    assert len(rows) > 10
    for row in rows:
        named = TEST.findall(row)
        assert named, f"{name(page)} claims without a test: {row}"
        for path, test in named:
            files = [ROOT / path] if path.endswith(".py") else list((ROOT / path).rglob("test_*.py"))
            assert files, path
            assert all(file.is_file() for file in files), path
            text = files[0].read_text(encoding="utf-8")
            assert f"def {test}(" in text if test else path.startswith("bench/") or "def test_" in text, (path, test)


def test_every_page_is_in_the_navigation_of_the_site_once() -> None:
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert pages <= set(named), "name the page in mkdocs.yml"
    assert len(named) == len(set(named))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    for word in code(page):
        for dotted in set(MODULE.findall(word)) - NO_MODULES:
            first, *rest = dotted.split(".")[1:]
            names = (SOURCE / "__init__.py").read_text(encoding="utf-8")
            path = SOURCE / first
            is_room = path.is_dir() or path.with_suffix(".py").is_file()
            assert is_room or f'"{first}"' in names, dotted
            if is_room and rest:
                inside = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                assert (path / rest[0]).with_suffix(".py").is_file() or rest[0] in inside.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ABOUT_CODE, ids=name)
def test_every_class_that_a_page_about_the_code_names_exists(page: Path) -> None:
    words = {found for word in code(page) for found in CLASS.findall(word)}
    assert not words - defined() - OTHERS


def test_the_page_lists_every_room_in_the_order_of_the_layers() -> None:
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    layers = re.findall(r"\w+", linter["importlinter:contract:rooms"]["layers"])
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == layers


def test_the_pages_written_by_hand_stay_short_enough_to_read() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    words = {name(page): len(WORD.findall(NO_PROSE.sub(" ", page.read_text(encoding="utf-8")))) for page in pages}
    long = sorted(words, key=words.__getitem__)[-5:]
    assert words["README.md"] <= 900
    assert sum(words.values()) <= 30_000, f"shorten a page, or generate its tables; the longest: {', '.join(long)}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=name)
def test_a_decision_takes_a_minute_to_read(page: Path) -> None:
    assert len(WORD.findall(NO_PROSE.sub(" ", page.read_text(encoding="utf-8")))) <= 250, (
        "give the reason, not the story"
    )
