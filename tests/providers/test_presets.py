from datetime import date

import pytest

from tokenferry.credentials import ApiKey
from tokenferry.providers import (
    PLACE_EXAMPLES,
    Provider,
    Reading,
    Table,
    builtin_providers,
    declare,
    presets,
    url_fault,
)
from tokenferry.providers._presets import filled, other_formats
from tokenferry.secret import Secret


@pytest.mark.parametrize("name", presets())
def test_a_preset_names_an_address_its_source_and_when_that_was_seen(name: str) -> None:
    preset = presets()[name]
    assert url_fault(filled(preset.base_url, {name: PLACE_EXAMPLES[name] for name in preset.places})) is None
    assert preset.source.startswith("https://")
    assert date(2026, 11, 1) <= preset.checked
    assert preset.provider.is_at_vendor
    assert preset.base_url.endswith("/v1") == (preset.wire_format == "openai")
    assert preset.env_var is not None or preset.google
    assert not preset.base_url.endswith("/")
    # A client's own credential, and requests without a trace of this gateway, go to the vendor's hosts alone.
    assert bool(preset.hosts) != preset.provider.is_local
    assert (preset.placeholder_key is not None) == preset.provider.is_local


def declared(**table: object) -> tuple[Provider | None, list[str]]:
    reading = Reading()
    read = Table(table, "providers[1]", reading)
    provider = declare(read, builtin_providers())
    read.done()
    return provider, [fault.text for fault in reading.faults]


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_declared_by_its_type_or_its_name(name: str) -> None:
    preset = presets()[name]
    places = {name: PLACE_EXAMPLES[name] for name in preset.places}
    for table in ({"name": "mine", "provider_type": name}, {"name": name}):
        provider, problems = declared(**table, **places)
        assert not problems
        assert provider is not None
        assert provider.base_url == filled(preset.base_url, places)
        assert (provider.key_header, provider.env_var) == (preset.key_header, preset.env_var)
        assert (provider.wire_format, provider.slash_names) == (preset.wire_format, preset.slash_names)
        assert provider.is_served == (preset.wire_format == "anthropic")
        assert provider.serves_mapped


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"name": "bedrock"}, "providers.bedrock.region is missing: its address has one"),
        ({"name": "bedrock", "region": "../evil"}, "providers.bedrock.region must name a region"),
        ({"name": "bedrock", "region": "evil.example/"}, "providers.bedrock.region must name a region"),
        ({"name": "vertex", "location": "global"}, "providers.vertex.project_id is missing: its address has one"),
        ({"name": "vertex", "project_id": "p-1"}, "providers.vertex.location is missing: its address has one"),
        (
            {"name": "vertex", "project_id": "a/../b", "location": "us"},
            "providers.vertex.project_id must name",
        ),
        (
            {"name": "vertex", "project_id": "p-1", "location": "x.evil/"},
            "providers.vertex.location must name",
        ),
        ({"name": "azure"}, "providers.azure.resource is missing: its address has one"),
        ({"name": "azure", "resource": "evil.example/"}, "providers.azure.resource must name a resource"),
        ({"name": "azure", "resource": "a.evil"}, "providers.azure.resource must name a resource"),
    ],
)
def test_a_region_is_one_word_of_an_address_that_has_one(table: dict[str, str], problem: str) -> None:
    _, problems = declared(**table)
    assert any(one.startswith(problem) for one in problems), problems


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform"),
        ("eu", "aiplatform.eu.rep"),
        ("us", "aiplatform.us.rep"),
        ("europe-west4", "europe-west4-aiplatform"),
    ],
)
@pytest.mark.parametrize(
    ("provider_type", "dialect"), [("vertex-ai", "vertex"), ("vertex", "vertex"), ("vertex-claude", "anthropic")]
)
def test_a_location_of_vertex_says_the_host(location: str, host: str, provider_type: str, dialect: str) -> None:
    provider, problems = declared(name="mine", provider_type=provider_type, project_id="p-1", location=location)
    assert not problems
    assert provider is not None
    assert provider.base_url == f"https://{host}.googleapis.com/v1/projects/p-1/locations/{location}"
    assert (provider.dialect, provider.key_header, provider.is_served) == (dialect, "authorization", False)


def test_azures_key_goes_into_a_header_of_its_own_in_both_of_openais_apis() -> None:
    for wire_format in ("openai", "openai-responses"):
        provider, problems = declared(name="azure", resource="mine", wire_format=wire_format)
        assert not problems
        assert provider is not None
        key = ApiKey(Secret("k" * 32), header=provider.key_header)
        assert key.headers() == (("api-key", "k" * 32),)
        assert provider.base_url == "https://mine.openai.azure.com/openai/v1"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            {"name": "azure", "resource": "mine", "api_version": "a&b=c"},
            "providers.azure.api_version must be a version",
        ),
        ({"name": "deepseek", "api_version": "2024-10-21"}, "providers.deepseek.api_version is for an API of OpenAI's"),
    ],
)
def test_a_version_of_azures_api_is_one(table: dict[str, str], problem: str) -> None:
    _, problems = declared(**table)
    assert [one for one in problems if one.startswith(problem)], problems


@pytest.mark.parametrize(
    "prefix", ["sk-ant-api03-", *(prefix for one in presets().values() for prefix in one.prefixes)]
)
def test_a_key_of_another_vendor_is_doubted_or_refused_at_every_preset(prefix: str) -> None:
    key = ApiKey(Secret(f"{prefix}0123456789abcdef"))
    for preset in presets().values():
        provider = preset.provider
        if prefix not in preset.prefixes and not provider.is_local:
            assert provider.key_fault(key) or provider.key_doubt(key), preset.name


@pytest.mark.parametrize(("name", "key"), [("openai", "sk-proj-0123456789abcdef"), ("groq", "gsk_0123456789abcdef")])
def test_a_vendors_own_key_raises_no_doubt_there(name: str, key: str) -> None:
    assert presets()[name].provider.key_doubt(ApiKey(Secret(key))) is None
    assert presets()["cerebras"].provider.key_doubt(ApiKey(Secret(key))) is not None


@pytest.mark.parametrize("name", other_formats())
def test_types_of_other_formats_are_declared_and_not_served(name: str) -> None:
    provider, problems = declared(name="mine", provider_type=name)
    assert not problems
    assert provider is not None
    assert provider.wire_format == other_formats()[name] != "anthropic"
    assert not provider.is_served
