import pytest

from tokenferry.clients import EnvText

A = ("A",)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "A=x\n"),
        ("B=1", "B=1\nA=x\n"),
        ("B=1\r\n", "B=1\r\nA=x\r\n"),
        ("export A=old # why\n", "export A=x # why\n"),
        ("A='old'\nB=2\n", "A=x\nB=2\n"),
        ("# A=1\n", "# A=1\nA=x\n"),
        ('B="1\nA=2\n"\n', 'B="1\nA=2\n"\nA=x\n'),
    ],
)
def test_one_line_is_changed_or_added_and_no_other(before: str, after: str) -> None:
    assert EnvText(before).with_value(A, "x").text == after


@pytest.mark.parametrize(("before", "after"), [("A=1\n", ""), ("B=1\nA=2\nC=3", "B=1\nC=3"), ("B=1\n", "B=1\n")])
def test_a_line_is_taken_out_whole(before: str, after: str) -> None:
    assert EnvText(before).without(A).text == after


def test_a_variable_that_is_set_twice_is_ambiguous() -> None:
    with pytest.raises(ValueError, match="line 3: A is set twice"):
        EnvText("A=1\n\nA=2\n").raw(A)


@pytest.mark.parametrize("value", ["a b", "$HOME", "a#b", "'", "a\nB=1", ""])
def test_what_would_need_quotes_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="would need quotes"):
        EnvText.encode(value)


def test_its_repr_shows_nothing_and_every_value_may_be_a_secret() -> None:
    text = EnvText("A=secret-1\n# secret-2\nB='secret-3'\n")
    assert "secret" not in repr(text)
    assert [one.value for one in text.strings()] == ["secret-1", "# secret-2", "secret-3"]
