"""What a request costs, against bills made by hand from the vendor's page."""

import json
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.prices import UNKNOWN, PriceTable, TokenCounts
from tokenferry.settings import PriceSettings

URLS = {
    "anthropic": "https://api.anthropic.com",
    "router": "https://openrouter.ai/api",
    "z.ai": "https://api.z.ai/api/anthropic",
    "minimax": "https://api.minimax.io/anthropic",
    "deepseek": "https://api.deepseek.com/anthropic",
    "mine": "http://127.0.0.1:8000",
}
TABLE = PriceTable(URLS)
MILLION = 1_000_000


def moment(day: str, clock: str = "12:00") -> float:
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC).timestamp()


NOW = moment("2026-11-01")


@pytest.mark.parametrize(
    ("model", "counts", "dollars"),
    [
        # Dollars a million: input 5, output 25, cache read 0.50, written for 5 minutes 6.25, for an hour 10.
        ("claude-opus-5", TokenCounts(1000, 2000), 0.005 + 0.05),
        ("claude-opus-5", TokenCounts(cache_read=100_000), 0.05),
        ("claude-opus-5", TokenCounts(cache_write_5m=40_000), 0.25),
        ("claude-opus-5", TokenCounts(cache_write_1h=40_000), 0.40),
        (
            "claude-opus-5",
            TokenCounts(12, 340, 54_000, 1000, 20_000, 2),
            0.00006 + 0.0085 + 0.027 + 0.00625 + 0.2 + 0.02,
        ),
        ("claude-haiku-4-5", TokenCounts(1, 1), 0.000006),
        # Above 100,000 tokens of input all of it costs more.
        ("claude-haiku-5-5", TokenCounts(100_000, 1000), 0.01 + 0.0005),
        ("claude-haiku-5-5", TokenCounts(60_000, 1000, cache_read=40_001), 0.03 + 0.0025 + 0.00200005),
    ],
)
def test_a_bill_made_by_hand(model: str, counts: TokenCounts, dollars: float) -> None:
    price = TABLE.price("anthropic", (model,), NOW)
    assert price.is_known
    assert price.cost(counts) == round(dollars * MILLION)


@pytest.mark.parametrize(
    ("model", "said", "dollars"),
    [
        ("claude-opus-5", (("speed", "standard"), ("service_tier", "standard"), ("inference_geo", "global")), 30.0),
        ("claude-opus-5", (("speed", "fast"),), 60.0),
        ("claude-opus-4-6", (("speed", "fast"),), 180.0),
        ("claude-opus-5", (("inference_geo", "us"), ("service_tier", "")), 33.0),
        ("claude-opus-5", (("service_tier", "batch"), ("inference_geo", "us")), 16.5),
    ],
)
def test_speed_tier_and_region_are_factors_on_tokens_alone(
    model: str, said: tuple[tuple[str, str], ...], dollars: float
) -> None:
    price = TABLE.price("anthropic", (model,), NOW)
    assert price.cost(TokenCounts(MILLION, MILLION), *said) == round(dollars * MILLION)
    assert price.cost(TokenCounts(MILLION, MILLION, web_searches=100), *said) == round((dollars + 1) * MILLION)


def test_a_price_holds_from_its_day_on() -> None:
    """The tier above 200,000 tokens went on 13 March 2026."""
    counts = TokenCounts(300_000, 1000)
    before = TABLE.price("anthropic", ("claude-opus-4-6",), moment("2026-03-12", "23:59"))
    after = TABLE.price("anthropic", ("claude-opus-4-6",), moment("2026-03-13", "00:00"))
    assert (before.cost(counts), after.cost(counts)) == (3_037_500, 1_525_000)


def test_a_price_holds_in_its_hours() -> None:
    costs = [
        TABLE.price("deepseek", ("deepseek-flash",), moment("2026-11-01", clock)).cost(TokenCounts(MILLION))
        for clock in ("00:59", "01:00", "03:59", "04:00")
    ]
    assert costs == [150_000, 300_000, 300_000, 150_000]


@pytest.mark.parametrize(
    ("provider", "model", "known_as"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "Claude-Opus-5[1m]", "claude-opus-5"),
        ("anthropic", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic", "anthropic/claude-opus-5", "claude-opus-5"),
        ("anthropic", "claude-sonnet-4@20250514", "claude-sonnet-4-0"),
        ("z.ai", "glm-5", "GLM-5"),
        ("anthropic", "claude-opus-5-preview", ""),
        ("anthropic", "claude-opus", ""),
        ("minimax", "MiniMax-M2.9", ""),
        ("mine", "claude-opus-5", ""),
        ("nobody", "claude-opus-5", ""),
        ("anthropic", "", ""),
    ],
)
def test_a_model_matches_by_its_name_and_is_never_guessed(provider: str, model: str, known_as: str) -> None:
    assert TABLE.price(provider, (model,), NOW).model == known_as


def test_an_unknown_model_is_not_free() -> None:
    price = TABLE.price("mine", ("llama",), NOW)
    assert price is UNKNOWN
    assert not price.is_known
    assert price.cost(TokenCounts(MILLION, MILLION)) == 30 * MILLION
    assert all(price.cost(TokenCounts(*(int(at == one) * MILLION for at in range(5)))) > 0 for one in range(5))


def test_the_first_name_with_a_price_counts() -> None:
    assert TABLE.price("anthropic", ("odd", "claude-opus-5"), NOW).model == "claude-opus-5"
    assert TABLE.price("anthropic", ("claude-haiku-4-5", "claude-opus-5"), NOW).model == "claude-haiku-4-5"


def test_declared_prices_come_first_and_hold_from_their_day() -> None:
    table = PriceTable(
        URLS,
        [
            PriceSettings("claude-*", percent=80, since="2026-06-01"),
            PriceSettings("claude-opus-5", "anthropic", input=1, output=2, since="2026-09-01"),
            PriceSettings("llama", "mine", input=0, output=0),
        ],
    )
    counts = TokenCounts(MILLION, MILLION)
    days = ("2026-05-31", "2026-06-01", "2026-09-01")
    assert [table.price("anthropic", ("claude-opus-5",), moment(day)).cost(counts) for day in days] == [
        30 * MILLION,
        24 * MILLION,
        3 * MILLION,
    ]
    assert table.price("anthropic", ("claude-haiku-4-5",), NOW).cost(counts) == 4_800_000
    assert table.price("mine", ("llama",), NOW).cost(counts) == 0
    assert table.price("mine", ("other",), NOW) is UNKNOWN


amounts = st.integers(0, 10**9)


@given(st.builds(TokenCounts, *[amounts] * 6), st.sampled_from(["claude-opus-5", "claude-haiku-5-5", "x"]))
def test_more_tokens_never_cost_less(counts: TokenCounts, model: str) -> None:
    price = TABLE.price("anthropic", (model,), NOW)
    costs = [price.cost(counts._replace(**{name: value + 1000})) for name, value in counts._asdict().items()]
    assert all(cost >= price.cost(counts) >= 0 for cost in costs)


@given(st.text(), st.floats(0, 4e9))
def test_no_name_and_no_time_raises(model: str, at: float) -> None:
    assert TABLE.price("anthropic", (model, None), at).rates


def test_the_shipped_table_is_whole() -> None:
    table = json.loads(files("tokenferry.prices").joinpath("table.json").read_text("utf-8"))
    assert table["source"].startswith("genai-prices ")
    models = [(name, one) for name, entry in table["vendors"].items() for one in entry["models"]]
    assert len(models) > 1000
    for vendor, entry in table["vendors"].items():
        for model in entry["models"]:
            for price in entry["models"][model]["prices"]:
                assert {"input", "output"} <= price.keys(), (vendor, model)
