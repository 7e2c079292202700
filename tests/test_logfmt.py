import json
import shlex

from hypothesis import given
from hypothesis import strategies as st

from tokenferry.logfmt import pairs, quoted


@given(st.text())
def test_a_quoted_value_is_one_printable_word_and_reads_back(text: str) -> None:
    value = quoted(text)
    assert value.isascii()
    assert value.isprintable()
    assert (json.loads(value) if value.startswith('"') else value) == text


def test_fields_without_a_value_are_left_out() -> None:
    line = pairs([("a", 1), ("b", None), ("c", "two words")])
    assert shlex.split(line) == ["a=1", "c=two words"]
