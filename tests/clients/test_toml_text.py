import tomllib

import pytest

from leaks import leaks
from tokenferry.clients import TomlText

NEW = ("model_providers", "ours", "name")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        "[[hooks]]\na = 1\n[[hooks]]\na = 2\n",
        "[a.b]\nc = 1\n[d]\ne = 2\n[a.f]\ng = 3\n",
        '[model_providers.x]\nname = "x"\n\n[other]\nq = 1\n\n[model_providers.y]\nname = "y"\n',
        'text = """\nmodel_provider = "x"\n"""\n',
        '[projects."/home/me/x"]\ntrust_level = "trusted"\n',
        "day = 1979-05-27T07:32:00Z\nreal = 1.0\nhex = 0x1F\n",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_value_is_put_in_and_all_else_stays(text: str, ends: str) -> None:
    text = text.replace("\n", ends)
    after = TomlText(text).with_value(("top",), '"x"').with_value(NEW, '"y"')
    values = tomllib.loads(after.text)
    expected = tomllib.loads(text)
    expected["top"] = "x"
    expected.setdefault("model_providers", {})["ours"] = {"name": "y"}
    assert values == expected
    assert (after.raw(("top",)), after.raw(NEW)) == ('"x"', '"y"')
    assert [line for line in text.split(ends) if line not in after.text] == []
    back = after.without(("top",)).without(NEW)
    assert (back.raw(("top",)), back.raw(NEW)) == (None, None)
    assert (
        tomllib.loads(back.without(NEW[:2]).without(NEW[:1]).text).items()
        >= {key: value for key, value in tomllib.loads(text).items() if key != NEW[0]}.items()
    )


def test_what_has_no_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="can't be edited without a risk"):
        TomlText("model_providers = { x = { name = 'x' } }\n").with_value(NEW, '"y"')


@pytest.mark.parametrize(
    ("text", "place"), [("a = 1\nkey = 'secret-of-mine", "last line"), ("a = 1\n[a]\nb = 'secret-of-mine'\n", "line 2")]
)
def test_what_is_not_toml_is_refused_by_its_line_and_not_quoted(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=place) as caught:
        TomlText(text)
    assert not leaks(caught.value, "secret-of-mine")


def test_every_string_and_comment_is_found_with_its_name() -> None:
    text = TomlText('a = "1" # c\n[t]\nb = ["2", \'3\']\nd = """\n4"""\n')
    found = [(one.keys, one.value) for one in text.strings()]
    assert found == [(("a",), "1"), ((), "# c"), (("b",), "2"), (("b",), "3"), (("d",), "\n4")]
    assert repr(text) == "TomlText(44 characters)"
