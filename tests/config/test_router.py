import pytest

from config.written import Write, notes, problems
from tokenferry.settings import RouterSettings, RuleSettings

MODELS = """
[[models]]
name = "glm"
[[models.mappings]]
provider = "sandbox"
"""


def test_nothing_said_is_no_routing(write: Write) -> None:
    assert write("[router]").router == RouterSettings() == write("").router


def test_every_key_is_read(write: Write) -> None:
    config = write("""
        [router]
        default = "a"
        background = "b"
        think = "c"
        websearch = "d"
        auto_map_regex = "^(claude|gpt)-"
        auto_map_defined = false
        background_regex = "(?i)(haiku|mini)"
        think_adaptive = true
        subagent_tag = false
        unmapped = "default"
        list_models = "mapped"
        [[router.rules]]
        model = "e"
        headers = { X-Team = "^research$", x-other = "1" }
        keys = ["laptop"]
        [[router.rules]]
        name = "large"
        model = "f"
        min_bytes = 200000
        max_bytes = 9000000
        requested = "opus"
    """)
    assert config.router == RouterSettings(
        default="a",
        background="b",
        think="c",
        websearch="d",
        auto_map_regex="^(claude|gpt)-",
        auto_map_defined=False,
        background_regex="(?i)(haiku|mini)",
        think_adaptive=True,
        subagent_tag=False,
        list_models="mapped",
        rules=(
            RuleSettings("rule 1", "e", (("x-team", "^research$"), ("x-other", "1")), ("laptop",)),
            RuleSettings("large", "f", requested="opus", min_bytes=200_000, max_bytes=9_000_000),
        ),
    )
    assert not config.warnings


def test_what_is_empty_counts_as_left_out(write: Write) -> None:
    config = write('[router]\ndefault = ""\nbackground = ""\nauto_map_regex = ""\nbackground_regex = ""')
    assert config.router == RouterSettings()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('auto_map_regex = "("', "router.auto_map_regex isn't a regular expression: at character 1, a ( has no )"),
        (
            'background_regex = "[z-a]"',
            "router.background_regex isn't a regular expression: at character 2, a range",
        ),
        ("default = 1", "router.default must be a string"),
        ('unmapped = "drop"', "router.unmapped must be one of default, reject"),
        ('defualt = "x"', "router.defualt is not a known key; did you mean default?"),
        ('think = "glmm"\nunmapped = "reject"', "router.think names 'glmm', which no [[models]] names, and unmapped"),
        ("[[router.rules]]", "router.rules[1].model is missing"),
        ('[[router.rules]]\nmodel = "glm"', "router.rules[1].model needs a condition beside it: headers, keys"),
        ('[[router.rules]]\nmodel = "glm"\nheaders = { "a b" = "c" }', "router.rules[1].headers names 'a b', which is"),
        (
            '[[router.rules]]\nmodel = "glm"\nheaders = { Authorization = "c" }',
            "router.rules[1].headers must not look at Authorization, which holds a credential; use keys",
        ),
        ('[[router.rules]]\nmodel = "glm"\nheaders = { a = "(" }', "router.rules[1].headers for a isn't a regular"),
        ('[[router.rules]]\nmodel = "glm"\nmin_bytes = -1', "router.rules[1].min_bytes must be a whole number from 0"),
        (
            '[[router.rules]]\nmodel = "glm"\nkey = "a"',
            "router.rules[1].key is not a known key; did you",
        ),
        (
            '[[router.rules]]\nname = "a"\nmodel = "glm"\nkeys = ["b"]\n[[router.rules]]\nname = "a"\nmodel = "glm"\n'
            'keys = ["c"]',
            "router.rules[2].name is taken by another rule",
        ),
    ],
)
def test_a_fault_is_reported_with_its_place(write: Write, text: str, problem: str) -> None:
    found = problems(write, f"[router]\n{text}\n{MODELS}")
    assert any(reported.startswith(problem) for reported in found), found


def test_a_target_that_no_model_has_is_reported_where_there_are_models(write: Write) -> None:
    assert not write('[router]\nbackground = "claude-haiku-4-5"').warnings
    assert notes(write(f'[router]\nbackground = "claude-haiku-4-5"\nthink = "GLM"\n{MODELS}')) == [
        "router.background names 'claude-haiku-4-5', which no [[models]] names: the default providers are asked for it"
    ]
    assert notes(write(f'[router]\ndefault = "anthropic"\n{MODELS}')) == [
        "router.default names 'anthropic', which no [[models]] names: the default providers are asked for it; for the "
        'provider anthropic write providers = ["anthropic"]'
    ]
