"""`config init` and `config schema` have every key, with what holds without it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tokenferry.config import SECTIONS, Config, examine_content, json_schema, template

PATH = Path("/etc/config.toml")
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.toml"))


def uncommented(text: str) -> bytes:
    return re.sub(r"^# (?=[a-z0-9_]+ = |\[)", "", text, flags=re.MULTILINE).encode()


def test_as_it_is_written_it_sets_nothing() -> None:
    assert examine_content(template().encode(), PATH, environ={}).config == Config(PATH)


def test_each_default_is_what_holds_without_it() -> None:
    """Apart from lists and tables of names, whose lines are examples, `[section]` is there as it is."""
    plain = "".join(part for part in re.split(r"(?m)^(?=\[|# \[)", template()) if part.startswith("["))
    examined = examine_content(uncommented(plain), PATH, environ={})
    assert examined.problems == ()
    assert examined.config == Config(PATH)
    given = {setting.table for setting in examined.settings.values() if setting.is_given and setting.is_in_document}
    assert given == {section.path for section in SECTIONS if not section.is_list and len(section.path) == 1}


def test_with_every_line_it_can_be_used() -> None:
    examined = examine_content(uncommented(template()), PATH, environ={})
    words = ("api_version is for an API of OpenAI's", "and api_key say the same thing", "api_key can't be exchanged")
    assert [word in problem for word, problem in zip(words, examined.problems, strict=True)] == [True] * len(words)
    read = {setting.path for setting in examined.settings.values() if setting.is_given and setting.is_in_document}
    assert len(read) == sum(len(section.keys) for section in SECTIONS)


def test_each_key_has_a_line_of_its_own() -> None:
    lines = template().splitlines()
    assert sum(line.startswith("# ") and " = " in line for line in lines) == sum(len(one.keys) for one in SECTIONS)


# -- the schema


def faults(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """What a document breaks of a schema, as far as ours go: the words that they use, and no others."""
    known = {"$schema", "title", "description", "default", "format", "type", "enum", "properties", "items", "anyOf"}
    assert set(schema) <= known | {"additionalProperties", "pattern", "minimum", "maximum", "minLength"}
    if "anyOf" in schema:
        return [] if any(not faults(value, one, at) for one in schema["anyOf"]) else [f"{at}: none of anyOf"]
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if not isinstance(value, types[schema["type"]]):
        return [f"{at}: no {schema['type']}"]
    found = [f"{at}: not in enum" for _ in "x" if value not in schema.get("enum", [value])]
    found += [f"{at}: pattern" for _ in "x" if "pattern" in schema and not re.search(schema["pattern"], value)]
    found += [f"{at}: limits" for _ in "x" if not schema.get("minimum", -1e99) <= schema.get("maximum", 1e99)]
    found += [f"{at}: too short" for _ in "x" if "minLength" in schema and len(value) < schema["minLength"]]
    if isinstance(value, list):
        found += [fault for each in value for fault in faults(each, schema["items"], f"{at}[]")]
    if isinstance(value, dict):
        further, properties = schema["additionalProperties"], schema.get("properties", {})
        for key, each in value.items():
            inner = properties.get(key, further)
            found += faults(each, inner, f"{at}.{key}") if inner else [f"{at}.{key}: unknown"]
    return found


def test_the_schema_takes_every_key_with_its_default() -> None:
    document = tomllib.loads(uncommented(template()).decode())
    assert faults(document, json_schema()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_schema_takes_the_examples_of_the_documentation(path: Path) -> None:
    allowed = [".providers[].oauth_provider: unknown"] if path.stem == "claude-code-mux" else []
    assert faults(tomllib.loads(path.read_text()), json_schema()) == allowed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[server]\nprot = 1", ".server.prot: unknown"),
        ('[pool]\nstrategy = "x"', ".pool.strategy: not in enum"),
        ('[pool]\ntotal_timeout = "1 week"', ".pool.total_timeout: none of anyOf"),
        ("[accounts.work]\nx = 1", ".accounts.work.x: unknown"),
        ("[[models]]\n[[models.mappings]]\nprovider = 1", ".models[].mappings[].provider: no string"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str, fault: str) -> None:
    assert faults(tomllib.loads(text), json_schema()) == [fault]
    assert examine_content(text.encode(), PATH, environ={}).problems
