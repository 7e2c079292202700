"""The hashed files in requirements/: what `make demo` and `make test` install is small, and all files agree."""

import re
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
LARGEST = 5_000_000
"""Bytes of a package, compressed as its wheel is."""


def pins(name: str) -> Mapping[str, str]:
    """Each package's line, with its version, condition and hashes."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    return {re.split(r"\[|==", line)[0]: line for line in text.splitlines()}


def _version(line: str) -> str:
    return re.split(r"==|[ ;]", line)[1]


def size(package: str) -> int:
    try:
        contents = [path.locate() for path in files(package) or [] if path.suffix != ".pyc"]
    except PackageNotFoundError:  # for another platform
        return 0
    return sum(len(zlib.compress(Path(path).read_bytes(), 1)) for path in contents)


def test_no_package_that_only_tests_need_is_large() -> None:
    large = {name: size(name) for name in pins("test").keys() - pins("run").keys()}
    assert {name: bytes_ for name, bytes_ in large.items() if bytes_ > LARGEST} == {}


@pytest.mark.parametrize("name", ["run", "test", "bench", "docs"])
def test_every_file_pins_what_the_developers_have(name: str) -> None:
    """Conditions and extras may differ: what one file needs in part, another needs everywhere or whole."""

    def pinned(file: str) -> set[str]:
        return {re.sub(r" ;.*?(?=\s+--hash)|\[[^]]*\](?===)", "", line) for line in pins(file).values()}

    assert pinned(name) <= pinned("dev")


def test_what_e2e_has_besides_is_for_the_recipes() -> None:
    """The frameworks need hundreds of megabytes, so developers don't have them; what both have is the same."""
    ours, theirs = pins("dev"), pins("e2e")
    both = ours.keys() & theirs.keys()
    assert [name for name in both if _version(ours[name]) != _version(theirs[name])] == []
    assert {"litellm", "langchain-anthropic", "pydantic-ai-slim"} <= theirs.keys() - ours.keys()


@pytest.mark.parametrize("name", ["run", "test", "e2e", "bench", "dev", "docs", "fuzz", "model"])
def test_every_requirement_is_one_version_with_hashes(name: str) -> None:
    assert [line for line in pins(name).values() if not re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []
