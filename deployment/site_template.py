"""The text of a hospital's ``site.toml``, with a comment for everything that can be decided."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache

from accounting.against import HOSPITAL, views_of_spend
from accounting.calibration import noise_multiplier_for
from accounting.events import GaussianEvent
from accounting.noise import make_noise_plan
from accounting.spending import DeclaredPlan, Spending, views_tuple
from accounting.totals import declared_total
from clients.contract.training_settings import Training

#: Delta of the limits, as the file says it.
DELTA_TEXT = "1e-4"
#: The default limit on epsilon, and the least room it leaves above one run of epsilon `TARGET`.
LIMIT = 2.0
MARGIN = 0.1
TARGET = 1.0

_TEXT = """\
# What {hospital} decides for itself. Nothing that a run asks for can override this file.
# Paths are relative to it. 'asclepias check --site .' tells whether all is well.

hospital = {hospital_text}
superlink = {superlink}

# SHA-256 of the app bundles that may run here ('asclepias bundle' prints it). Any other bundle is
# refused before its code runs. Without any this hospital takes part in nothing; 'any-app = true'
# in place of the list lets every bundle run that the SuperLink sends, whatever it does.
allowed-apps = {allowed_apps}

# Seeded runs are repeatable and give no privacy: for tests on public data only.
test-mode = {test_mode}

# true: when a training closes, this hospital attacks its promise with made-up patients, a few
# seconds of a processor. What is found goes to private/audit-<training>.json and the log, to nobody
# else.
audit = false

[data]
{data}
[limits]
# Whom the limit on epsilon is against, the strongest observer that is reckoned with: "server";
# "hospital" (any one other, who knows its own noise); "colluders:2" (any two others together);
# "server+hospitals:1" (the server with any one other, who may see single updates, but not under
# sealing.scheme one-time).
against = {against}
# Most that everything ever released here may cost a patient, all trainings together. It is counted
# so that it holds whatever runs are submitted, and whatever they learnt before.
{budget}
# Smallest noise multiplier of the sum, and fewest honest hospitals it may rest on.
min-noise-multiplier = {least_noise}
min-hospitals = {least_hospitals}
# Other hospitals that may all work with the server without seeing more than sums: 0 under bfv, up
# to K - 2 under sealing.scheme one-time, fewer with dropouts. 1: none of them alone may matter.
min-colluders = {least_colluders}
# Largest picture or volume that a run may bring a folder's to, in values: 161 voxels a side.
max-values = 4194304
# C and CDP pool data in one place; F adds no noise.
allowed-regimes = {regimes}

[ledger]
# What was spent, for ever. Back it up; never delete it. A restored one: 'asclepias ledger recover'.
path = "private/ledger.jsonl"
# Places that may be known to the server alone before the other hospitals must vouch for it.
unwitnessed = 4
# true: they vouch in each training, whatever happened to the file.
require-witness = false
# "any": a network disk that gives the file another inode at times.
home = "inode"

[node]
# Port on this machine's loopback interface between SuperNode and app; 0: any free one.
runtime-port = 0
# Shortest pause between two questions to the SuperLink, in seconds; it grows to 3 when all is idle.
poll-seconds = 0.2
threads = 1
# Processes that compute a large gradient together; more than one with threads = 1 only.
processes = 1
# What gradients are computed on: "auto" (CUDA where it is there), "cpu", "cuda" or "cuda:1".
device = "auto"
# 5: answers leave at whole multiples of 5 s, so that the time they take tells less of the records.
# 0: as soon as they are ready.
answer-every = 0

[pins]
# Fingerprints of all hospitals' identity keys. Compare them by telephone, not by mail. Without any
# this hospital takes part in nothing; 'trust-on-first-use = true' above [data] in place of them
# pins the first key seen for each name.
{pins}
"""

_DATA_HINTS = """\
# One of: csv:<file> (CSV, Excel or Parquet, with <file>.toml beside it, which names the patient
# column), npz:<file> (with <file>.toml beside it, which lists the classes), image-folder:<folder>
# (pictures, DICOM, NIfTI, with dataset.toml in it, which lists them), hf:<dataset>,
# package.module:function, or a benchmark's name. 'flower-simulation describe' drafts these files.
# patients = 120 declares about how many train here. The number becomes public; where the model
# visits hospital by hospital, it is what steps are divided by, instead of the mean over hospitals.
# most-patients = 150 declares that no more train here; public too. 'asclepias check-data --site .'
# compares: runs that share layers ask for it, and its word alone decides, never the records.
"""


def site_text(
    *,
    hospital: str,
    superlink: str,
    data: Mapping[str, str | bool | int],
    pins: Mapping[str, str],
    test_mode: bool,
    allowed_apps: Sequence[str],
    least_colluders: int = 0,
) -> str:
    """Return a complete, commented ``site.toml``."""
    benchmark = "simulated-partition" in data
    budget = f"delta = {DELTA_TEXT}" if benchmark else _budget(len(pins))
    regimes = ["FSCDP", "FPDP"] if not benchmark else ["FSCDP", "FPDP", "F"]
    return _TEXT.format(
        hospital=hospital,
        hospital_text=_toml(hospital),
        superlink=_toml(superlink),
        allowed_apps=_toml(list(allowed_apps)),
        test_mode=_toml(test_mode),
        data=_DATA_HINTS + "".join(f"{key} = {_toml(value)}\n" for key, value in data.items()),
        against=_toml(str(HOSPITAL)),
        budget=budget,
        least_noise="0.0" if benchmark else "0.5",
        least_hospitals=2 if benchmark else min(3, len(pins)),
        least_colluders=least_colluders,
        regimes=_toml(regimes),
        pins="\n".join(f"{name} = {_toml(pin)}" for name, pin in sorted(pins.items())),
    )


def _budget(hospitals: int) -> str:
    """The default limit, and what a run takes of it."""
    usual, counted = Training(), cost_of_a_usual_run(hospitals)
    limit = max(LIMIT, math.ceil(counted * (1.0 + MARGIN) * 10.0) / 10.0)
    run = f"q {usual.sampling_rate:g}, {usual.rounds} rounds, {hospitals} hospitals"
    return "\n".join(
        [
            f"# Here a run of target epsilon {TARGET:g} at the delta below (FSCDP, {run})",
            f"# counts {counted:.2f} at most, {counted / limit:.0%} of the limit; two exceed it.",
            f"max-epsilon = {limit:g}",
            f"delta = {DELTA_TEXT}",
        ]
    )


@cache
def cost_of_a_usual_run(hospitals: int) -> float:
    """What a run of epsilon `TARGET` against the server counts against any one other hospital.

    Sampling rate and rounds are those that settings begin with; no attempt is spare, as with a
    target, and its noise is shared by all hospitals.
    """
    usual, delta = Training(), float(DELTA_TEXT)
    sigma = noise_multiplier_for(
        target_epsilon=TARGET,
        delta=delta,
        sampling_rate=usual.sampling_rate,
        rounds=usual.rounds,
        accountant="prv",
    )
    plan = make_noise_plan("semi-central", noise_multiplier=sigma, hospitals=hospitals)
    views = views_of_spend(plan, regime="FSCDP", exchange="gradients", scheme="bfv")
    event = GaussianEvent(sampling_rate=usual.sampling_rate, noise_multiplier=sigma)
    spending = Spending("run", "gradients", event, views_tuple(views))
    plans = {"run": DeclaredPlan(event=event, places=usual.rounds)}
    return declared_total([spending], plans, against=HOSPITAL, delta=delta, limit=TARGET)


def _toml(value: object) -> str:
    """Write text, numbers, switches and lists of text: where JSON and TOML agree."""
    return json.dumps(value)
