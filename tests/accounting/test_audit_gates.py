"""Gates are open for honest noise and samples, and shut for each way of getting them wrong."""

import numpy as np
import pytest

from accounting.audit_gates import (
    TAILS,
    NoiseTally,
    RepeatTally,
    SamplingTally,
    count_gate,
    overlap_gate,
    spread_gate,
)

STEP, ERROR = 0.05, 1e-8


def on_grid(values):
    return np.rint(values / STEP) * STEP


def shut(gates):
    return {gate.name for gate in gates if not gate.open(ERROR)}


def noise_gates(values, step=STEP):
    tally = NoiseTally(stddev=1.0, step=step, subject="a hospital")
    for part in np.array_split(np.rint(values / step) * step, 4):
        tally.add(part)
    return tally.gates()


@pytest.mark.parametrize("step", [1 / 3, 0.05, 1e-4])
def test_gaussian_noise_passes_on_coarse_and_on_fine_grids(step):
    rng = np.random.default_rng(1)
    gates = noise_gates(rng.standard_normal(2_000_000), step)
    assert len(gates) == 1 + len(TAILS)
    assert min(gate.chance for gate in gates) > 1e-4
    # Chances are exact: the noise beyond three deviations, on this grid.
    assert gates[1].expected == pytest.approx(gates[1].found, rel=0.05)


@pytest.mark.parametrize(
    "name, change",
    [
        ("noise beyond 3 standard deviations", lambda n: np.clip(n, -3.0, 3.0)),
        ("noise beyond 4 standard deviations", lambda n: np.where(abs(n) > 4, 0.0, n)),
        ("shape of the noise (chi-squared)", lambda n: 0.98 * n),
        ("noise beyond 5 standard deviations", lambda n: n * np.where(abs(n) > 4, 1.5, 1.0)),
    ],
)
def test_noise_of_another_shape_is_found(name, change):
    rng = np.random.default_rng(2)
    assert name in shut(noise_gates(change(rng.standard_normal(1_000_000))))


@pytest.mark.parametrize("step", [0.31, 0.3, 0.25, 0.11, 0.1, 0.05])
def test_a_cut_right_at_a_threshold_is_found_on_every_grid(step):
    rng = np.random.default_rng(9)
    gates = noise_gates(np.clip(rng.standard_normal(100_000), -3.0, 3.0), step)
    assert "noise beyond 3 standard deviations" in shut(gates)


def test_noise_of_the_right_spread_and_another_law_is_found():
    rng = np.random.default_rng(3)
    laplace = rng.laplace(scale=0.5**0.5, size=100_000)
    assert "shape of the noise (chi-squared)" in shut(noise_gates(laplace))
    uniform = rng.uniform(-(3**0.5), 3**0.5, 100_000)
    assert "shape of the noise (chi-squared)" in shut(noise_gates(uniform))


def test_a_spread_that_is_one_percent_off_is_found_on_either_side():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(500_000)
    for factor, found in ((1.0, True), (0.99, False), (1.01, False)):
        squares = float(((factor * noise) ** 2).sum())
        gate = spread_gate("spread", "all", squares=squares, count=len(noise), stddev=1.0)
        assert gate.open(ERROR) is found
        assert gate.found == pytest.approx(factor, rel=0.005)


def test_chances_of_counts_are_two_sided():
    assert count_gate("c", "s", found=0, trials=10, probability=0.5).chance == pytest.approx(
        2 / 1024
    )
    assert count_gate("c", "s", found=5, trials=10, probability=0.5).chance == 1.0
    assert count_gate("c", "s", found=10, trials=10, probability=1.0).chance == 1.0
    assert count_gate("c", "s", found=9, trials=10, probability=1.0).chance == 0.0


def test_noise_that_comes_again_is_known_wherever_it_came():
    rng = np.random.default_rng(5)
    tally = RepeatTally(step=1 / 3, stddev=1.0)
    vectors = [np.rint(rng.standard_normal(200) * 3) / 3 for _ in range(100)]
    for number, vector in enumerate(vectors):
        tally.add(vector, f"round {number}")
    assert tally.gate().open(ERROR)
    tally.add(vectors[17], "hospital 2, round 3")
    gate = tally.gate()
    assert not gate.open(ERROR)
    assert gate.subject == "hospital 2, round 3 as round 17"


def test_too_few_values_to_know_noise_by_shut_no_gate():
    tally = RepeatTally(step=1.0, stddev=1.0)
    for number in range(50):
        tally.add(np.zeros(2), f"round {number}")
    assert tally.gate().found > 0
    assert tally.gate().open(ERROR)


def sampling_gates(samples, rate):
    tally = SamplingTally(members=samples.shape[1], rate=rate, subject="hospital 1")
    for sample in samples:
        tally.add(sample)
    return tally.gates()


@pytest.mark.parametrize("rate", [0.0005, 0.03, 0.2, 1.0])
@pytest.mark.parametrize(
    "rounds, members",
    [(1, 400), (2, 20), pytest.param(40, 1000, marks=pytest.mark.exhaustive)],
)
def test_poisson_samples_pass(rate, rounds, members):
    """No gate's chance is small more often than it says, five standard errors allowed."""
    rng, samples = np.random.default_rng(6), 60
    found = [sampling_gates(rng.random((rounds, members)) < rate, rate) for _ in range(samples)]
    for chances in np.array([[gate.chance for gate in gates] for gates in found]).T:
        for level in (0.05, 0.005):
            assert (chances < level).mean() <= level + 5 * np.sqrt(level / samples)


@pytest.mark.parametrize(
    "name, draw",
    [
        ("share of patients in a batch", lambda rng: rng.random((40, 1000)) < 0.22),
        ("share of patients in a batch", lambda rng: np.ones((40, 1000), dtype=bool)),
        # Batches of a fixed size.
        (
            "spread of batch sizes",
            lambda rng: np.stack([rng.permutation(1000) < 200 for _ in range(40)]),
        ),
        # Everybody or nobody, in the right share.
        (
            "spread of batch sizes",
            lambda rng: np.repeat(rng.random((40, 1)) < 0.2, 1000, axis=1),
        ),
        # The same patients in every round.
        (
            "times that a patient was sampled: spread",
            lambda rng: np.repeat(rng.random((1, 1000)) < 0.2, 40, axis=0),
        ),
        # Each patient once in five rounds, in turn.
        (
            "times that a patient was sampled: spread",
            lambda rng: (np.arange(40)[:, None] + rng.integers(0, 5, 1000)) % 5 == 0,
        ),
    ],
)
def test_other_ways_of_choosing_a_batch_are_found(name, draw):
    assert name in shut(sampling_gates(draw(np.random.default_rng(7)), 0.2))


def test_hospitals_that_sample_the_same_patients_together_are_found():
    rng = np.random.default_rng(8)
    first, second = rng.random((2, 20_000)) < 0.2
    honest = overlap_gate("1 and 2", both=int((first & second).sum()), trials=20_000, rate=0.2)
    assert honest.open(ERROR)
    same = overlap_gate("1 and 2", both=int(first.sum()), trials=20_000, rate=0.2)
    assert not same.open(ERROR)
