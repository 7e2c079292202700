from datetime import date

import pytest

from tokenferry.providers import Provider, Reading, Table, builtin_providers, declare, presets, url_fault
from tokenferry.providers._presets import other_formats


@pytest.mark.parametrize("name", presets())
def test_a_preset_names_an_address_its_source_and_when_that_was_seen(name: str) -> None:
    preset = presets()[name]
    assert url_fault(preset.base_url) is None
    assert preset.source.startswith("https://")
    assert date(2026, 11, 1) <= preset.checked
    assert preset.provider.is_at_vendor
    assert not preset.base_url.endswith(("/", "/v1"))


def declared(**table: object) -> tuple[Provider | None, list[str]]:
    reading = Reading()
    read = Table(table, "providers[1]", reading)
    provider = declare(read, builtin_providers())
    read.done()
    return provider, [fault.text for fault in reading.faults]


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_declared_by_its_type_or_its_name(name: str) -> None:
    preset = presets()[name]
    for table in ({"name": "mine", "provider_type": name}, {"name": name}):
        provider, problems = declared(**table)
        assert not problems
        assert provider is not None
        assert provider.base_url == preset.base_url
        assert (provider.key_header, provider.env_var) == (preset.key_header, preset.env_var)
        assert provider.is_served


@pytest.mark.parametrize("name", other_formats())
def test_types_of_other_formats_are_declared_and_not_served(name: str) -> None:
    provider, problems = declared(name="mine", provider_type=name)
    assert not problems
    assert provider is not None
    assert provider.wire_format == other_formats()[name] != "anthropic"
    assert not provider.is_served
