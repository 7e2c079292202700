"""Each seed, and whatever broke a target once, gives something or is refused in a sentence."""

from pathlib import Path

import pytest

from fuzz.targets import TARGETS, run

SEEDS = sorted(Path(__file__).with_name("corpus").glob("*/*"))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_seed_breaks_nothing(seed: Path) -> None:
    run(seed.parent.name, seed.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {seed.parent.name for seed in SEEDS} == set(TARGETS)
