"""What the benchmark of sealing times is a whole round of each scheme, and opens to the sum."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(name="contenders")
def load_contenders(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sealing_contenders

    yield sealing_contenders
    sys.modules.pop("sealing_contenders")


@pytest.mark.parametrize(
    ("scheme", "hospitals", "dropouts"),
    [("one-time", 8, 0), ("one-time", 8, 2), ("one-time", 24, 5), ("modular", 8, 0)],
)
def test_a_measured_round_opens_to_the_sum(contenders, scheme, hospitals, dropouts):
    ours = contenders.Ours(scheme, "auto", 13, 300, hospitals, dropouts)
    dice = np.random.default_rng(0)
    vectors = [np.clip(dice.normal(scale=0.2, size=300), -1, 1) for _ in range(hospitals)]
    sealed = [ours.seal(vector) for vector in vectors]
    total = ours.add(sealed)
    assert (ours.answer() > 0) is bool(dropouts)
    assert np.abs(ours.open(total) - sum(vectors)).max() < hospitals * ours.plan.grid.step
    assert ours.size(sealed[0]) >= len(sealed[0].payload)
    # Who may be missing shares seeds of noise too, wherever a plan of noise has parts.
    parts = 0 if ours.plan.sharing is None else len(ours.plan.sharing.seeds)
    assert parts == {(8, 2): 2, (24, 5): 3}.get((hospitals, dropouts), 0)
