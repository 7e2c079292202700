"""The site's hooks (mkdocs.yml): add the pages at the root of the tree and the generated reference to docs/."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import reference  # in this folder

ROOT_PAGES: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "bench/README.md": "benchmarks.md",
}
"""Pages outside docs/: their path in the tree, and their page in the site."""
_LINK: Final = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, name in ROOT_PAGES.items():
        files.append(
            File.generated(config, name, content=_moved((reference.ROOT / path).read_text("utf-8"), path, name))
        )
    for name, make in reference.PAGES.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    if page.file.generated_by:
        return markdown
    return _moved(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def _moved(text: str, path: str, name: str) -> str:
    """The text of the file at `path`, its links rewritten for the page `name`. A link without a page becomes text."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups("")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        inside = ROOT_PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is None or target == "docs/decisions":
            return words if words.startswith("`") else f"{words} (`{target}`)"
        return f"{picture}[{words}]({posixpath.relpath(inside, posixpath.dirname(name) or '.')}{anchor})"

    return _LINK.sub(link, text)
