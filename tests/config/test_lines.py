import tomllib

from hypothesis import given
from hypothesis import strategies as st

from tokenferry.config._lines import line_of, lines_of, with_lines
from tokenferry.providers import Fault

TEXT = '''# a comment
[server]
port = 1 # [no.header]
hosts = [
  "a", # b
  "[server]",
]

text = """
[pool]
x = 1
"""
a.b = 2
[[providers]]
name = "one"
oauth = { client_id = "x" }
[providers.more]
[[providers]]
"na me" = 'two'
[providers.oauth]
scopes = ["a"]
[[models]]
[[models.mappings]]
[[models.mappings]]
provider = "x"
'''


def test_each_key_and_table_has_the_line_where_it_begins() -> None:
    found = lines_of(TEXT.replace("\n", "\r\n").encode())
    assert found == lines_of(TEXT.encode())
    expected = {
        ("server",): 2,
        ("server", "port"): 3,
        ("server", "hosts"): 4,
        ("server", "text"): 9,
        ("server", "a", "b"): 13,
        ("providers", 0): 14,
        ("providers", 0, "oauth", "client_id"): 16,
        ("providers", 0, "more"): 17,
        ("providers", 1): 18,
        ("providers", 1, "na me"): 19,
        ("providers", 1, "oauth"): 20,
        ("providers", 1, "oauth", "scopes"): 21,
        ("models", 0, "mappings", 1): 24,
        ("models", 0, "mappings", 1, "provider"): 25,
    }
    assert {place: found[place] for place in expected} == expected
    assert ("pool",) not in found


def test_what_is_missing_has_the_line_of_the_table_that_lacks_it() -> None:
    lines = lines_of(TEXT.encode())
    assert line_of(("providers", 1, "base_url"), lines) == 18
    assert line_of(("nowhere", "x"), lines) is None


def test_faults_come_in_the_order_of_their_lines() -> None:
    faults = [Fault(("server", "text"), "b"), Fault(("nowhere",), "a"), Fault(("server", "port"), "c")]
    assert [str(one) for one in with_lines(faults, TEXT.encode())] == ["a", "line 3: c", "line 9: b"]


def test_a_value_of_too_many_lines_costs_its_lines_and_not_minutes() -> None:
    text = "a = 1\nb = [\n" + "1,\n" * 100_000 + "]\nc = 1\n"
    assert dict(lines_of(text.encode())) == {("a",): 1}


@given(st.lists(st.sampled_from(["a = 1", "[t]", "[[l]]", "b = [", "]", '"""', "'''", "# x", "", "c = {d = 1}", "x"])))
def test_no_document_makes_it_raise(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        tomllib.loads(text)
    except ValueError:
        return
    assert all(0 < line <= len(lines) for line in lines_of(text.encode()).values())
