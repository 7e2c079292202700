"""The site of `make docs` in a real Chromium: complete, loading nothing from elsewhere, readable on a phone."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from e2e.chromium import chromium
from e2e.parties import lacking

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
FOREIGN: Final = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]*>")
OVERFLOW: Final = "() => document.documentElement.scrollWidth - window.innerWidth"
FETCHED: Final = "() => performance.getEntriesByType('resource').map(one => new URL(one.name).host)"
BACKGROUND: Final = "() => getComputedStyle(document.body).backgroundColor"
PAGES: Final = ("index", "reference/commands", "reference/troubleshooting", "reference/limits", "config", "errors")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    if not mkdocs.exists():
        lacking("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [mkdocs, "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert {page.name: found for page in pages if (found := FOREIGN.findall(page.read_text()))} == {}


def test_it_can_be_read_in_both_themes_and_on_a_phone(url: str, tmp_path: Path) -> None:
    pictures = os.environ.get("SITE_PICTURES")
    backgrounds = set()
    with chromium(tmp_path, names="") as browser:
        for width in (1280, 360):
            for theme in ("light", "dark"):
                browser.look(width, theme)
                for page in PAGES:
                    assert browser.open(f"{url}/{page}.html")["status"] == 200
                    assert browser.run(OVERFLOW) <= 0, (page, width)
                    assert set(browser.run(FETCHED)) == {url.removeprefix("http://")}, page
                    if pictures:
                        browser.picture(Path(pictures) / f"{page.replace('/', '-')}-{width}-{theme}.png")
                backgrounds.add(browser.run(BACKGROUND))
        assert len(backgrounds) == 2
        assert browser.problems() == []


def test_the_search_knows_each_error_by_its_text(site: Path) -> None:
    """As an entry of its own, with what to do, and before all other pages."""
    entries = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    entry = next(one for one in entries if "was copied here from another machine" in one["title"])
    assert entry["location"].startswith("reference/troubleshooting.html#")
    assert "tokenferry account confirm" in entry["title"] + entry["text"]
    assert entry["boost"] > 1
