import pytest

from tokenferry.providers import Provider, Reading, Table, builtin_providers, declare, indistinct, may_pass_through

ANTHROPIC, OPENROUTER, OTHER = "sk-ant-api03-x", "sk-or-v1-x", "another"


def declared(**table: object) -> Provider:
    reading = Reading()
    provider = declare(Table({"passthrough": True, **table}, "providers[1]", reading), builtin_providers())
    assert provider is not None
    assert not reading.faults
    return provider


@pytest.mark.parametrize(
    ("table", "allowed"),
    [
        ({"name": "anthropic"}, {ANTHROPIC}),
        ({"name": "mine", "provider_type": "console"}, {ANTHROPIC}),
        ({"name": "openrouter"}, {OPENROUTER}),
        ({"name": "z.ai"}, {OTHER}),
        ({"name": "mine", "base_url": "https://llm.example"}, {OTHER}),
        ({"name": "sandbox"}, {ANTHROPIC, OPENROUTER, OTHER}),
        ({"name": "anthropic", "passthrough": False}, set()),
    ],
)
def test_a_credential_goes_to_its_own_vendor_alone(table: dict[str, object], allowed: set[str]) -> None:
    provider = declared(**table)
    assert {one for one in (ANTHROPIC, OPENROUTER, OTHER) if may_pass_through(provider, one)} == allowed


@pytest.mark.parametrize(
    "table",
    [
        {"name": "anthropic", "base_url": "https://proxy.example"},
        {"name": "mine", "provider_type": "z.ai", "base_url": "https://z.ai.example"},
        {"name": "mine", "provider_type": "anthropic", "base_url": "https://api.kimi.com/coding"},
    ],
)
def test_another_host_than_the_vendors_is_a_fault(table: dict[str, object]) -> None:
    reading = Reading()
    provider = declare(Table({**table, "passthrough": True}, "providers[1]", reading), builtin_providers())
    assert any("passthrough is for the vendor's own hosts" in fault.text for fault in reading.faults)
    assert provider is not None
    assert not may_pass_through(provider, ANTHROPIC)


def test_vendors_whose_credentials_look_alike_cannot_both_have_them() -> None:
    plain = declared(name="z.ai"), declared(name="anthropic"), declared(name="openrouter"), declared(name="sandbox")
    assert indistinct(plain) == ()
    assert indistinct((*plain, declared(name="two", provider_type="z.ai"))) == ()
    assert indistinct((*plain, declared(name="deepseek"))) == ("z.ai", "deepseek")
