"""Noise on inputs: drawn once, from the right distribution, and accounted for in both units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accounting.errors import AccountingError
from accounting.input_noise import InputNoise
from accounting.randomness import Stream
from clients.contract.settings import Settings
from clients.data import Cohorts
from clients.data.noisy_inputs import KeptRecords, training_records
from clients.site.ground import Site, private_folder
from clients.site.ledgers import Ledgers
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def drawn(scale: float, count: int = 200_000) -> np.ndarray:
    noise = InputNoise(scale=scale, values=4)
    return noise.perturb(np.full(count, 0.5), Stream.from_seed(3, "noise")) - 128.0


def test_noise_is_discrete_laplace_of_the_scale() -> None:
    scale = 0.1
    values = drawn(scale)
    ratio = np.exp(-1 / (scale * 255))
    for level in (0, 1, 5, 20, 60):
        expected = (1 - ratio) / (1 + ratio) * ratio**level
        error = 5 * np.sqrt(expected / len(values))
        assert np.mean(values == level) == pytest.approx(expected, abs=error)
        assert np.mean(values == -level) == pytest.approx(expected, abs=error)
    # Negative control: a scale that is a tenth off is seen.
    assert np.mean(np.abs(values)) != pytest.approx(255 * scale * 1.1, rel=0.05)


def test_neighbouring_levels_tell_no_more_than_epsilon() -> None:
    """The two histograms differ nowhere by more than exp(1 / (255 beta)), the price of a level."""
    values = drawn(0.02, 400_000)
    counts = {level: np.count_nonzero(values == level) for level in range(-12, 13)}
    bound = np.exp(1 / (0.02 * 255))
    for level in range(-12, 12):
        assert counts[level + 1] / counts[level] < bound * 1.1
        assert counts[level] / counts[level + 1] < bound * 1.1


def test_the_account_names_one_value_and_the_whole_record() -> None:
    noise = InputNoise(scale=2.0, values=64 * 64)
    assert noise.epsilon_value == 0.5
    assert noise.epsilon_record == 2048.0
    row = noise.row(1e-4, ("rdp", "prv"), seeded=False)
    assert row.epsilon == {"rdp": 2048.0, "prv": 2048.0}
    assert "epsilon 0.5 for one value" in row.why and "labels are not covered" in row.why
    assert not row.binds_target and row.guaranteed
    assert not noise.row(1e-4, ("rdp",), seeded=True).guaranteed


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(AccountingError, match="scale is"):
        InputNoise(scale=scale, values=4)


def test_unseeded_noise_is_drawn_once_a_hospital_and_training(tmp_path: Path) -> None:
    """A process that starts anew sees the same noise; another hospital, or training, does not."""
    settings = Settings.from_config({"privacy.input-laplace": 0.5, "data.public": True})
    cohort = Cohorts().of(settings)
    records = cohort.hospital(cohort.names[0])

    def noisy(place: str, training: str, process: KeptRecords) -> np.ndarray:
        folder = private_folder(tmp_path / place)
        site = Site(name="hospital-00", folder=folder, simulated=True, ledgers=Ledgers())
        found = training_records(
            settings,
            cohort.info,
            records,
            prepare=lambda raw: raw,
            folder=folder,
            kept=process,
            stream=lambda: site.input_noise(training, settings),
        )
        return np.asarray(found.inputs)

    process: KeptRecords = {}
    first = noisy("one", "t", process)
    assert np.array_equal(noisy("one", "t", process), first)
    assert np.array_equal(noisy("one", "t", {}), first)
    assert not np.array_equal(noisy("one", "u", {}), first)
    assert not np.array_equal(noisy("two", "t", process), first)
    assert (tmp_path / "one" / "input-noise-t.key").stat().st_mode & 0o077 == 0
    assert np.abs(first - np.asarray(records.inputs)).mean() > 0.5  # twice the scale: range is 2


def test_what_is_not_a_number_is_noised_as_well() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.5])
    found = InputNoise(scale=0.001, values=4).perturb(values, Stream.from_seed(1, "noise"))
    assert np.abs(found - np.array([0, 255, 0, 128])).max() < 10


def test_a_run_says_what_input_noise_hides(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, privacy__input_laplace=2.0)
    run_app(settings)
    privacy = read_json(settings, "privacy.json")
    assert privacy["input_noise"]["epsilon_per_value"] == 0.5
    assert privacy["input_noise"]["epsilon_per_record"] == 15.0
    assert privacy["observers"][-1]["observer"] == "anyone, of one record's inputs"
    plain = small_settings(tmp_path / "plain")
    run_app(plain)
    assert read_json(plain, "privacy.json")["input_noise"] is None
    accuracy = [read_json(one, "summary.json")["metrics"]["loss"] for one in (settings, plain)]
    assert accuracy[0] != accuracy[1]


def test_a_model_is_judged_behind_the_noise_it_learnt_behind(tmp_path: Path) -> None:
    from strategies.holdout import Holdout

    noisy, again, plain = (
        Holdout(small_settings(tmp_path, privacy__input_laplace=scale)) for scale in (1.0, 1.0, 0)
    )
    inputs = [np.asarray(one._records.inputs) for one in (noisy, again, plain)]
    assert np.array_equal(inputs[0], inputs[1])
    assert np.abs(inputs[0] - inputs[2]).mean() > 1.0
