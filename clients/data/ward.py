"""Made-up hours of ward patients, whose truth is known: a series that needs no file.

Nobody's records: hospitals rarely publish hourly observations, so these are drawn from one fixed
seed. Each patient has 24 hours of heart rate, mean arterial pressure, breathing rate and oxygen
saturation, around levels of their own, with a day's rhythm and with deviations that last for hours
and go together. Some deteriorate, at an hour that nobody knows: over four hours the heart and the
breath quicken while pressure and saturation fall, and treatment brings that back. Others do what
looks alike in some of the four: they are up and about (the heart and the breath quicken, and the
pressure rises), their fever comes and goes, a sensor slips for an hour. Hours that were not taken
repeat the last. The label says who deteriorated, whatever can be seen of it: how large a
deterioration is differs, and some are lost among the rest, so that no model is always right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Dataset
from clients.data.files import Location
from clients.data.records import DatasetInfo, Records

PATIENTS, HOURS = 4000, 24
_SEED = 20190501
#: Heart rate, mean arterial pressure, breathing rate, saturation: level, its deviation between
#: patients, and that of an hour.
_LEVEL = np.array([80.0, 85.0, 17.0, 96.0])
_BETWEEN = np.array([10.0, 9.0, 2.0, 1.2])
_WITHIN = np.array([6.0, 6.0, 1.8, 1.0])
#: What each event does to them at its height.
_DETERIORATION = np.array([20.0, -14.0, 6.0, -3.0])
_ACTIVITY = np.array([20.0, 12.0, 6.0, 0.0])
_FEVER = np.array([18.0, 0.0, 3.0, 0.0])
#: The public ranges that are brought to [-1, 1]: what a monitor's chart shows.
_LOW = np.array([40.0, 45.0, 6.0, 84.0])
_HIGH = np.array([140.0, 125.0, 36.0, 100.0])
_SHARE = 0.35  # of patients who deteriorate
_STAYS = 0.8  # of an hour's deviation that is left an hour later

INFO = DatasetInfo(
    name="ward",
    title="Made-up hourly observations of ward patients, with known truth",
    task="binary",
    shape=(HOURS, len(_LEVEL)),
    classes=("steady", "deteriorates"),
    kind="series",
    one_record_each=True,
    licence="made up: nobody's records",
    source="drawn by clients/data/ward.py",
)


def observed(patients: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return series float32 [patients, 24, 4] in [-1, 1], and who deteriorated, int64."""
    drawn = np.random.default_rng(seed)
    labels = (drawn.random(patients) < _SHARE).astype(np.int64)
    hours = np.arange(HOURS)
    series = _LEVEL + _BETWEEN * drawn.standard_normal((patients, 1, len(_LEVEL)))
    begun = drawn.uniform(0, 24, (patients, 1))
    rhythm = np.cos(2 * np.pi * (begun + hours) / 24)
    series = series + rhythm[:, :, None] * np.array([4.0, 3.0, 0.5, 0.0])
    series += _deviations(drawn, patients)
    series += labels[:, None, None] * _event(drawn, patients, rise=4, effect=_DETERIORATION)
    for share, rise, effect in ((0.5, 1, _ACTIVITY), (0.3, 3, _FEVER)):
        some = (drawn.random(patients) < share)[:, None, None]
        series += some * _event(drawn, patients, rise=rise, effect=effect)
    slipped = drawn.random(series.shape) < 0.01
    series += slipped * np.array([15.0, -20.0, 5.0, -8.0])
    series = np.where(_missed(drawn, patients), np.nan, series)
    for hour in range(1, HOURS):
        series[:, hour] = np.where(np.isnan(series[:, hour]), series[:, hour - 1], series[:, hour])
    scaled = 2 * (series - _LOW) / (_HIGH - _LOW) - 1
    return scaled.clip(-1, 1).astype(np.float32), labels


def _deviations(drawn: np.random.Generator, patients: int) -> NDArray[np.float64]:
    """Return what hours deviate by [patients, hours, 4]: heart and breath go together."""
    shocks = drawn.standard_normal((patients, HOURS, len(_LEVEL)))
    shocks[:, :, 2] = 0.5 * shocks[:, :, 0] + 0.75**0.5 * shocks[:, :, 2]
    found = shocks.copy()
    for hour in range(1, HOURS):
        found[:, hour] = _STAYS * found[:, hour - 1] + (1 - _STAYS**2) ** 0.5 * shocks[:, hour]
    deviations: NDArray[np.float64] = found * _WITHIN
    return deviations


def _event(
    drawn: np.random.Generator, patients: int, *, rise: int, effect: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what something does that begins at any hour, grows, and passes: [patients, hours, 4].

    Args:
        drawn: randomness.
        patients: how many.
        rise: hours until it is at its height, and again until it is over.
        effect: at its height, of a patient in whom it is neither strong nor weak.
    """
    start = drawn.uniform(0, HOURS - 2 * rise, (patients, 1))
    height = drawn.uniform(1, 4, (patients, 1))  # hours that it stays
    since = np.arange(HOURS) - start
    shape = np.minimum(since / rise, (height + 2 * rise - since) / rise).clip(0, 1)
    size = drawn.lognormal(0.0, 0.4, (patients, 1))
    done: NDArray[np.float64] = (size * shape)[:, :, None] * effect
    return done


def _missed(drawn: np.random.Generator, patients: int) -> NDArray[np.bool_]:
    missed = drawn.random((patients, HOURS, len(_LEVEL))) < 0.05
    missed[:, 0] = False  # on admission all are taken
    return missed


def load(where: Location) -> Dataset:
    """Return the patients, one series each."""
    inputs, labels = observed(PATIENTS, _SEED)
    return Dataset(
        info=INFO,
        train=Records(inputs=inputs, labels=labels, patients=np.arange(PATIENTS, dtype=np.int64)),
    )
