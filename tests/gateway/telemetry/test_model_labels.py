from tokenferry.gateway.telemetry.counters import ModelLabels
from tokenferry.limits import OTHER


def test_no_client_makes_families_by_asking_for_them() -> None:
    families = ModelLabels()
    assert {families.of(f"claude-{'x' * n}", is_served=False) for n in range(1, 1000)} == {OTHER}
    assert families.of("claude-sonnet-4-5", is_served=True) == "claude-sonnet"
    assert families.of("claude-sonnet-9", is_served=False) == "claude-sonnet"
    assert families.of(None, is_served=True) == ""


def test_there_are_only_so_many_families() -> None:
    families = ModelLabels()
    names = {families.of(f"model-{'x' * n}", is_served=True) for n in range(1, 1000)}
    assert len(names) == 33
    assert OTHER in names


def test_nor_are_endless_names_remembered() -> None:
    families = ModelLabels()
    for number in range(5000):
        families.of(f"claude-sonnet-{number}", is_served=True)
    assert len(families._names) <= 1024
