"""`make lint` of the pages: the tree passes, and each check finds a fault of its kind."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
script = runpy.run_path(str(ROOT / "scripts" / "prose.py"))


def test_pages_and_comments_have_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    code = script["main"]()
    assert (code, capsys.readouterr().out) == (0, "")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("No link, `whom` in code.\n", []),
        ("```\nto whom\n```\n\n    by now\n", []),
        ("It reads\nthe file Anew.\n", [(2, '"Anew": write again')]),
        ("A keyring that is none.\n", [(1, '"that is none": write what it lacks')]),
        ("long " * 34, [(1, "170 characters; break the line at 165")]),
        ("| long " * 34, []),
        ("See [this](lost.md).\n", [(1, "lost.md: there is no such file")]),
        ("![a picture](images/lost.svg)\n", [(1, "images/lost.svg: there is no such file")]),
        ("# One `word`, two\n\n[up](#one-word-two), [down](#three)\n", [(3, "#three: page.md has no such heading")]),
        ("[elsewhere](https://example.com/lost.md), [mail](mailto:me@example.com)\n", []),
    ],
)
def test_a_fault_of_a_page_is_found_at_its_line(tmp_path: Path, text: str, faults: list[tuple[int, str]]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    script["_anchors"].cache_clear()
    assert list(script["page_faults"](page)) == faults


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("told = 'nobody'\n", []),
        ('def f() -> None:\n    """Give it.\n\n    It heeds the rest.\n    """\n', [4]),
        ("x = 1\ny = 2  # whom it was told\n", [2, 2]),
    ],
)
def test_a_word_in_a_comment_or_docstring_is_found_at_its_line(tmp_path: Path, text: str, lines: list[int]) -> None:
    module = tmp_path / "module.py"
    module.write_text(text)
    assert [number for number, _ in script["source_faults"](module)] == lines
