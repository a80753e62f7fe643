"""The step size by rule: public numbers in, and nothing of any patient."""

from __future__ import annotations

import pytest

from clients.contract.settings import SettingsError
from simulations.scenario import find_scenario, resolve
from simulations.step_size import step_size

DEFAULT = {
    "patients": 91.0,
    "multiplier": 5.0,
    "dimensions": 62,
    "rounds": 60,
    "l2_clip": 0.5,
    "momentum": 0.9,
}


def auto(*assignments: str) -> float:
    settings = resolve(find_scenario("default"), ["training.learning-rate=auto", *assignments])
    return settings.training.learning_rate


@pytest.mark.parametrize(
    ("name", "value"),
    [("multiplier", 50.0), ("dimensions", 10_000), ("rounds", 600), ("patients", 10.0)],
)
def test_more_noise_and_more_rounds_make_smaller_steps(name: str, value: float) -> None:
    assert step_size(**(DEFAULT | {name: value})) < step_size(**DEFAULT)  # type: ignore[arg-type]


def test_step_times_clip_is_what_counts() -> None:
    twice = step_size(**(DEFAULT | {"l2_clip": 1.0}))  # type: ignore[arg-type]
    assert 2 * twice == pytest.approx(step_size(**DEFAULT))  # type: ignore[arg-type]


def test_a_run_takes_the_number_that_the_rule_gives() -> None:
    assert 0.05 < auto() < 0.5
    # sqrt(K) times the noise in the sum; so small a cohort of ten feels it.
    assert auto("privacy.regime=FPDP") < auto()
    assert auto("privacy.regime=F") > auto()
    assert auto("privacy.regime=CDP") == pytest.approx(auto())


def test_no_record_moves_the_rule() -> None:
    """Another split or seed of the same public sizes, the same step."""
    assert auto("run.seed=1") == auto("run.seed=2") == auto("partition.name=iid")


def test_what_the_rule_is_not_for_is_refused() -> None:
    with pytest.raises(SettingsError, match="sgd, found gradients with adam"):
        auto("exchange.optimizer=adam")
