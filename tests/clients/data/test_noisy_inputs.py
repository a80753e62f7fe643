"""Noise on inputs: drawn once, from the right distribution, and accounted for in both units."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from accounting.errors import AccountingError
from accounting.events import input_epsilon
from accounting.input_noise import InputNoise
from accounting.randomness import Stream
from clients.contract.settings import Settings
from clients.data import Cohorts, Records
from clients.data.noisy_inputs import NoisyStore, training_records
from clients.site.books import Books
from clients.site.ground import Site, private_folder
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
    assert noise.epsilon_value == pytest.approx(0.5, rel=1e-12) and noise.epsilon_value > 0.5
    assert noise.epsilon_record == 4096 * noise.epsilon_value
    assert 0 < noise.delta_record < 1e-30
    row = noise.row(1e-4, ("rdp", "prv"), seeded=False)
    assert row.epsilon == dict.fromkeys(("rdp", "prv"), noise.epsilon_record)
    assert "epsilon 0.5 for one value" in row.why and "labels are not covered" in row.why
    assert not row.binds_target and row.guaranteed
    assert not noise.row(1e-4, ("rdp",), seeded=True).guaranteed


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0**41, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(AccountingError, match="scale is"):
        InputNoise(scale=scale, values=4)


def test_no_level_of_the_tail_is_a_hole() -> None:
    """Digit by digit every level has its probability; a 52-bit uniform stops at 36 widths."""

    class Deep(Stream):
        """Coins that fall on the side of what is hardly ever drawn: digits of 2 and up are 1."""

        def bernoulli(self, count: int, probability: float) -> np.ndarray:
            tosses.append(probability)
            return np.full(count, tosses.index(probability) > 0 and probability < 0.5)

    tosses: list[float] = []
    scale = 0.1
    InputNoise(scale=scale, values=1).perturb(np.zeros(1), Deep(bytes(32), seeded=True))
    digits = tosses[:-2]
    width = scale * 255
    reach = sum(2**j for j in range(len(digits)))
    assert reach > 85 * width
    expected = [1 / (1 + np.exp(2**j / width)) for j in range(len(digits))]
    np.testing.assert_allclose(digits, expected, rtol=1e-12)
    # What the digits multiply to is the geometric law, at any depth.
    for level in (0, 1, 2, 100, 1500, 2150):
        bits = [(level >> j) & 1 for j in range(len(digits))]
        logs = [np.log(p if bit else 1 - p) for p, bit in zip(digits, bits, strict=True)]
        law = np.log(-np.expm1(-1 / width)) - level / width
        assert sum(logs) == pytest.approx(law, abs=1e-9)


class Hospital:
    """A hospital's ground and what a training sees of its records."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(
            name="hospital-00", folder=private_folder(folder), simulated=True, books=Books()
        )
        self.cohort = Cohorts().of(Settings.from_config({"data.public": True}))
        self.own = self.cohort.hospital(self.cohort.names[0])

    def noisy(
        self, training: str, *, scale: float = 0.5, records: Records | None = None
    ) -> np.ndarray:
        """What a process that remembers nothing learns from."""
        settings = Settings.from_config({"privacy.input-laplace": scale, "data.public": True})
        found = training_records(
            settings,
            self.cohort.info,
            self.own if records is None else records,
            prepare=lambda raw: raw,
            folder=self.site.folder,
            kept={},
            streams=lambda noise: self.site.input_noise(
                noise, self.cohort.info, settings, training
            ),
        )
        return np.asarray(found.inputs)


def test_noise_is_drawn_once_a_hospital_and_scale_whatever_the_training(tmp_path: Path) -> None:
    """Two trainings see the same; the mean over a hundred shows no more than one."""
    hospital = Hospital(tmp_path / "one")
    first = hospital.noisy("t")
    assert np.array_equal(hospital.noisy("t"), first)
    assert np.array_equal(hospital.noisy("u"), first)
    other = hospital.noisy("t", scale=0.25)
    assert not np.array_equal(other, first)
    # Not the same noise at another scale: that would give the difference away.
    raw = np.asarray(hospital.own.inputs)
    # Of so few values chance makes 0.06 or so; the same noise would make 1.
    assert abs(np.corrcoef((first - raw).ravel(), (other - raw).ravel())[0, 1]) < 0.4
    assert not np.array_equal(Hospital(tmp_path / "two").noisy("t"), first)
    keys = list((tmp_path / "one").glob("input-noise-*.key"))
    assert len(keys) == 2 and all(key.stat().st_mode & 0o077 == 0 for key in keys)
    assert np.abs(first - raw).mean() > 0.5  # twice the scale: range is 2


def test_a_patient_who_joins_changes_nobody_elses_noise(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    whole = hospital.noisy("t")
    # Without the first patients, and in another order.
    order = np.arange(len(hospital.own))[3:][::-1]
    assert np.array_equal(hospital.noisy("u", records=hospital.own.take(order)), whole[order])


def test_equal_records_and_corrected_ones_take_noise_of_their_own(tmp_path: Path) -> None:
    """Else noisy records would tell which are equal, and their difference what was corrected."""
    hospital = Hospital(tmp_path)
    inputs = np.asarray(hospital.own.inputs)[[0, 0]].copy()
    twins = hospital.noisy("t", records=hospital.own.take([0, 1]).with_inputs(inputs))
    assert np.mean(twins[0] == twins[1]) < 0.2
    inputs[1, 0] = -inputs[1, 0] + 0.5
    corrected = hospital.noisy("u", records=hospital.own.take([0, 1]).with_inputs(inputs))
    assert np.array_equal(corrected[0], twins[0])
    assert np.mean(corrected[1, 1:] == twins[0, 1:]) < 0.2
    assert np.mean(corrected[1, 1:] == twins[1, 1:]) < 0.2


def test_each_draw_is_in_the_hospitals_ledger_once_and_adds_up(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    for training in ("t", "u"):
        hospital.noisy(training)
    hospital.noisy("u", scale=1.0)
    ledger = hospital.site.book(hospital.cohort.info.name)
    half, one = (InputNoise(scale=scale, values=30).event for scale in (0.5, 1.0))
    assert [entry.event for entry in ledger.entries()] == [half, one]
    assert input_epsilon(ledger.events()) == pytest.approx(30 * (2.0 + 1.0))
    # It is no release: the epsilon of adding or removing a patient is what sums cost.
    assert ledger.epsilon(1e-5, "rdp") == ledger.epsilon(1e-5, "prv") == 0.0
    assert ledger.would_be(None, 1e-5) == 0.0
    next(tmp_path.glob("input-noise-*.key")).unlink()
    for scale in (0.5, 1.0):
        hospital.noisy("v", scale=scale)
    assert len(ledger.entries()) == 3  # a key that was lost is a draw anew


def test_what_is_not_a_number_is_noised_as_well() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.5])
    found = InputNoise(scale=0.001, values=4).perturb(values, Stream.from_seed(1, "noise"))
    assert np.abs(found - np.array([0, 255, 0, 128])).max() < 10


def test_a_run_says_what_input_noise_hides(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, privacy__input_laplace=2.0)
    run_app(settings)
    privacy = read_json(settings, "privacy.json")
    assert privacy["input_noise"]["epsilon_per_value"] == pytest.approx(0.5)
    assert privacy["input_noise"]["epsilon_per_record"] == pytest.approx(15.0)
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


def test_what_cannot_be_read_stays_no_number_and_moves_nobody_elses_noise() -> None:
    inputs = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    noise = InputNoise(scale=0.5, values=3)

    def noisy(rows: np.ndarray) -> np.ndarray:
        records = Records(
            inputs=rows, labels=np.zeros(len(rows), dtype=np.int64), patients=np.arange(len(rows))
        )
        streams = partial(Stream.from_seed, 1, "hospital")
        store = NoisyStore(records, noise, (-1.0, 1.0), streams)
        return store.read(np.arange(len(rows)))

    spoilt = inputs.copy()
    spoilt[1] = np.nan
    assert np.isnan(noisy(spoilt)[1]).all()
    np.testing.assert_array_equal(noisy(spoilt)[[0, 2, 3]], noisy(inputs[[0, 2, 3]]))
