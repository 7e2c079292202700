import pytest

from config.written import Write, problems
from tokenferry.settings import ModelMapping, ModelSettings

PROVIDERS = """
[[providers]]
name = "one"
base_url = "https://one.example"
[[providers]]
name = "two"
base_url = "https://two.example"
"""


def test_mappings_are_tried_by_priority_and_then_as_written(write: Write) -> None:
    config = write(
        PROVIDERS
        + """
        [[models]]
        name = "glm"
        display_name = "GLM"
        [[models.mappings]]
        provider = "two"
        actual_model = "z/glm"
        priority = 2
        [[models.mappings]]
        provider = "one"
        [[models.mappings]]
        provider = "sandbox"
        priority = 2
        actual_model = "b"
        """
    )
    mappings = (ModelMapping("one", "glm"), ModelMapping("two", "z/glm", 2), ModelMapping("sandbox", "b", 2))
    assert config.models == (ModelSettings("glm", mappings, "GLM"),)
    assert not config.warnings


def test_a_mapping_says_how_requests_of_other_formats_are_translated(write: Write) -> None:
    """At a provider of any format: clients may speak another one."""
    chat = '[[providers]]\nname = "chat"\nbase_url = "https://chat.example/v1"\nwire_format = "openai"\n'
    said = 'max_output_tokens = 8192\ndrop = ["web_search"]\nefforts = ["low"]\n'
    config = write(
        f"""{PROVIDERS}{chat}[[models]]\nname = "m"\n[[models.mappings]]\nprovider = "chat"\n{said}"""
        f"""[[models.mappings]]\nprovider = "one"\n{said}"""
    )
    assert config.models[0].mappings == (
        ModelMapping("chat", "m", max_output_tokens=8192, drop=("web_search",), efforts=("low",)),
        ModelMapping("one", "m", max_output_tokens=8192, drop=("web_search",), efforts=("low",)),
    )
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[models]", "models must be written as [[models]]"),
        ("[[models]]", "models[1].name is missing"),
        ('[[models]]\nname = "x"', "models.x.mappings are missing; write [[models.mappings]] with a provider"),
        ('[[models]]\nname = "x"\n[[models.mappings]]', "models.x.mappings[1].provider is missing"),
        (
            '[[models]]\nname = "x"\n[[models.mappings]]\nprovider = "on"',
            "models.x.mappings[1].provider names 'on', which is not a provider; known: one, two, anthropic",
        ),
        (
            '[[models]]\nname = "x"\n[[models.mappings]]\nprovider = "one"\npriority = 1.5',
            "models.x.mappings[1].priority must be a whole number from 0",
        ),
        (
            '[[models]]\nname = "x"\n[[models.mappings]]\nprovider = "one"\nactual = "y"',
            "models.x.mappings[1].actual is not a known key; did you mean actual_model?",
        ),
        (
            '[[models]]\nname = "x"\n[[models.mappings]]\nprovider = "one"\n'
            '[[models]]\nname = "X"\n[[models.mappings]]\nprovider = "one"',
            "models.X.name is taken by another of [[models]]; case doesn't count",
        ),
        (
            '[[models]]\nname = "x"\nmapping = []',
            "models.x.mapping is not a known key; did you mean mapp",
        ),
    ],
)
def test_a_fault_is_reported_with_its_place(write: Write, text: str, problem: str) -> None:
    found = problems(write, PROVIDERS + text)
    assert any(reported.startswith(problem) for reported in found), found


def test_models_that_a_provider_lists_itself_are_mapped_to_it_unless_models_says_otherwise(write: Write) -> None:
    config = write(
        PROVIDERS.replace('name = "one"', 'name = "one"\nmodels = ["a", "b"]').replace(
            'name = "two"', 'name = "two"\nmodels = ["B", "a"]'
        )
        + '[[models]]\nname = "b"\n[[models.mappings]]\nprovider = "two"\n'
    )
    assert config.models == (
        ModelSettings("b", (ModelMapping("two", "b"),)),
        ModelSettings("a", (ModelMapping("one", "a"), ModelMapping("two", "a"))),
    )
