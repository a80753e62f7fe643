"""The text of a hospital's ``site.toml``, with a comment for everything that can be decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

_TEXT = """\
# What {hospital} decides for itself. Nothing that a run asks for can override this file.
# Paths are relative to it. 'asclepias check --site .' tells whether all is well.

hospital = {hospital_text}
superlink = {superlink}

# SHA-256 of the app bundles that may run here ('asclepias bundle' prints it). Any other bundle is
# refused before its code runs; an empty list refuses all.
allowed-apps = {allowed_apps}

# Seeded runs are repeatable and give no privacy: for tests on public data only.
test-mode = {test_mode}

[data]
{data}
[limits]
# Most that everything ever released here may cost a patient, all trainings together. It is counted
# so that it holds whatever runs are submitted: a run of target epsilon 1 takes about 1.3 of it.
{budget}
# Smallest noise multiplier of the sum, and fewest honest hospitals it may rest on.
min-noise-multiplier = {least_noise}
min-hospitals = {least_hospitals}
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

[pins]
# Fingerprints of all hospitals' identity keys. Compare them by telephone, not by mail.
{pins}
"""

_DATA_HINTS = """\
# One of: csv:<file> (with <file>.toml beside it, which names the patient column), npz:<file>,
# image-folder:<folder>, hf:<dataset>, package.module:function, or a benchmark's name.
# patients = 120 declares about how many train here. The number becomes public; where the model
# visits hospital by hospital, it is what steps are divided by, instead of the mean over hospitals.
"""


def site_text(
    *,
    hospital: str,
    superlink: str,
    data: Mapping[str, str | bool | int],
    pins: Mapping[str, str],
    test_mode: bool,
    allowed_apps: Sequence[str],
) -> str:
    """Return a complete, commented ``site.toml``."""
    benchmark = "simulated-partition" in data
    budget = "delta = 1e-4" if benchmark else "max-epsilon = 2.0\ndelta = 1e-4"
    regimes = ["FSCDP", "FPDP"] if not benchmark else ["FSCDP", "FPDP", "F"]
    return _TEXT.format(
        hospital=hospital,
        hospital_text=_toml(hospital),
        superlink=_toml(superlink),
        allowed_apps=_toml(list(allowed_apps)),
        test_mode=_toml(test_mode),
        data=_DATA_HINTS + "".join(f"{key} = {_toml(value)}\n" for key, value in data.items()),
        budget=budget,
        least_noise="0.0" if benchmark else "0.5",
        least_hospitals=2 if benchmark else min(3, len(pins)),
        regimes=_toml(regimes),
        pins="\n".join(f"{name} = {_toml(pin)}" for name, pin in sorted(pins.items())),
    )


def _toml(value: object) -> str:
    """Write text, numbers, switches and lists of text: where JSON and TOML agree."""
    return json.dumps(value)
