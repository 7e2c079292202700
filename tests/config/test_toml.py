from pathlib import Path

import pytest

from tokenferry.config import load
from tokenferry.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[server]\nport\n", "line 2, column 5: a key has no = after it"),
        (b"[server]\nport = \n", "line 2, column 8: a value is missing, or is a text without quotes"),
        (b"[server]\nhost = localhost\n", "line 2, column 8: a value is missing, or is a text without quotes"),
        (b"[server]\nport = 1\nport = 2\n", "line 3, column 9: a key is set twice"),
        (b"[server]\n[server]\n", "line 2, column 8: a table is declared twice"),
        (b"[server\n", "line 1, column 8: the name of a table has no ] after it"),
        (b"[server]\nport = 1 2\n", "line 2, column 10: something follows a value on its line"),
        (b"a = [1", "at its end: a list has no ] at its end"),
        (b'a = "x', "at its end: a text has no quote at its end"),
        (b'[log]\nfile = "a\\q"\n', "line 2, column 12: a backslash in double quotes begins no escape; use single"),
        (b'[log]\nfile = "\x01"\n', "line 2, column 9: it holds a control character"),
        (b"[log]\n# \xff\n", "line 2: it holds a character that is not UTF-8"),
        (b"? = 1\n", "line 1, column 1: a line begins with neither a key nor a [table]"),
    ],
)
def test_a_fault_names_its_place_and_says_in_plain_words_what_is_wrong(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    path.chmod(0o600)
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path} is not valid TOML: {reason}")
    assert str(caught.value).endswith("; correct it with: tokenferry config edit")
