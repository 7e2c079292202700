"""`make lint`: check README.md, CHANGELOG.md, docs/ and comments for words to avoid, long lines and broken links.

Exits with 1 if it finds any. Links to other sites are not followed.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[1]
WORDS: Final = {
    "anew": "again",
    "befalls?": "happen to",
    "by now": "already, or leave it out",
    "errands?": "attempt",
    "goes by": "uses",
    "heeds?": "use, or obey",
    "mends?": "fix",
    "nobody": "no one, or a subject",
    "second thoughts": "the event",
    "sees to it": "the action",
    "that (?:is|are) none": "what it lacks",
    "told": "the active voice",
    "whom": "a shorter sentence",
}
"""Words to avoid, and what to write instead."""
LONGEST: Final = 165
"""Characters in a line of a page. Tables, pictures and code may be longer; Ruff checks modules."""
Fault: TypeAlias = tuple[int, str]

_WORD: Final = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
_FENCE: Final = re.compile(r"^ *```")
_CODE: Final = re.compile(r"`[^`]*`")
_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?!https?:|mailto:)([^)\s]*)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


def page_faults(page: Path) -> Iterator[Fault]:
    """Faults of a Markdown page, with their line numbers."""
    is_code = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code and not line.startswith("    "):
            yield from ((number, fault) for fault in _word_faults(_CODE.sub("`…`", line)))
            yield from ((number, fault) for fault in _link_faults(page, line))
            if len(line) > LONGEST and line[0] not in "|!":
                yield number, f"{len(line)} characters; break the line at {LONGEST}"


def source_faults(file: Path) -> Iterator[Fault]:
    """Faults in a module's comments and docstrings. Only modules with such a word are parsed, which is quick."""
    text = file.read_text("utf-8")
    if not _WORD.search(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.string.startswith('"""'):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                yield from ((number, fault) for fault in _word_faults(_CODE.sub("`…`", line)))


def _word_faults(line: str) -> Iterator[str]:
    for found in _WORD.finditer(line):
        instead = next(meant for word, meant in WORDS.items() if re.fullmatch(word, found[1], re.IGNORECASE))
        yield f'"{found[1]}": write {instead}'


def _link_faults(page: Path, line: str) -> Iterator[str]:
    for found in _LINK.finditer(line):
        path, _, anchor = found[1].partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{found[1]}: there is no such file"
        elif anchor and anchor not in _anchors(target):
            yield f"{found[1]}: {target.name} has no such heading"


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Anchors of a page's headings, by GitHub's rules."""
    headings = _HEADING.findall(page.read_text("utf-8"))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def main() -> int:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
    sources = [path for room in ("src", "scripts") for path in sorted((ROOT / room).rglob("*.py"))]
    count = 0
    for file in (*pages, *sources):
        for number, fault in page_faults(file) if file.suffix == ".md" else source_faults(file):
            sys.stdout.write(f"{file.relative_to(ROOT)}:{number}: {fault}\n")
            count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main())
