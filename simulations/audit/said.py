"""What is said beside answers: a run's files, word by word, and what hospitals say aloud.

Stated here in full, as what an answer may hold is. A file of a run has the names that every run's
has, and counts public records alone. A hospital's own log is in its own folder: in the process that
asked it, it says nothing. And no patient is named anywhere outside of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from accounting.audit_gates import Gate
from clients.contract.messages import ARRAYS, content_to_bytes
from crypto.headers import SignedHeader
from simulations.audit.canary_data import NAMES_BEGIN
from simulations.audit.gates import exact_gate, most_odd, two_sided

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from simulations.audit.wire import Wire


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EVERY_ROW = _names("kind time round epsilon_rdp epsilon_prv")
_BYTES = _names("uplink_bytes downlink_bytes")
#: Kind of a row of metrics.jsonl -> what it says.
_FIGURES: Mapping[str, frozenset[str]] = {
    "release": _EVERY_ROW | _names("loss accuracy balanced_accuracy auc"),
    "round": _EVERY_ROW
    | _names("attempt closed contributions seconds phases server_phases")
    | _BYTES
    | {f"{one}_total" for one in _BYTES},
}
#: What lies in a run's folder beside what is said below.
_FILES = _names(
    "config.toml iterates.safetensors ledger.jsonl metrics.jsonl model.safetensors"
    " predictor.safetensors server sites split.json"
)
_DOUBT = _names(
    "brier by_subgroup confidence coverage ece mean_set_size members patients rejection"
    " single_class temperature"
)
#: File -> where in it ("" for the whole) -> the names that there may be.
_SAID: Mapping[str, Mapping[str, frozenset[str]]] = {
    "summary.json": {
        "": _names(
            "accuracy alone_accuracy auc classes confusion data delta"
            " downlink_bytes_per_hospital_round downlink_bytes_total epsilon exchange holdout"
            " hospital_accuracy hospitals left_out mean_hospital_accuracy merit metrics model"
            " noise_multiplier patients regime rounds sampling_rate scenario scheme seconds seed"
            " seeded status training unit uplink_bytes_per_hospital_round uplink_bytes_total"
            " versions"
        ),
        "metrics": _names(
            "accuracy auc average_precision balanced_accuracy balanced_at_threshold brier ece loss"
            " majority sensitivity specificity"
        ),
        "merit": _names("by_class looked_for majority one_guess uneven"),
        "epsilon": _names("prv rdp"),
        "holdout": _names("named origin patients records"),
        "seconds": _names("round_median total"),
        "versions": _names("flwr numpy opacus python ray tenseal torch"),
    },
    "privacy.json": {
        "": _names(
            "audited delta grid holdout input_noise ledger neighbouring noise_multiplier observers"
            " rounds_spent sampling_rate seeded target_epsilon unit"
        ),
        "holdout": _names("named origin patients records"),
        "grid": _names(
            "bits bound clamp delta_slack draws epsilon_slack kl levels noise_stddev parts step"
            " summed sums tail"
        ),
        "observers": _names("binds_target delta epsilon guaranteed observer rests_on why"),
        "ledger": _names(
            "attempt event number purpose round rounds slack time training uses views"
        ),
    },
    "evaluation.json": {
        "": _names("calibration classes confusion merit"),
        "merit": _names("by_class curves figures looked_for majority one_guess uneven"),
        "calibration": _names("accuracy confidence count high low"),
    },
    "doubt.json": {"": _names("iterates predictor"), "iterates": _DOUBT, "predictor": _DOUBT},
}


def said_gates(wire: Wire, settings: Settings) -> list[Gate]:
    """Return the gates of a run's files, of what hospitals say aloud, and of what is random.

    Args:
        wire: of a run.
        settings: its settings.
    """
    return [
        exact_gate("a run's files are those of any run", list(_strange_files(wire, settings))),
        exact_gate("hospitals say nothing beside their answers", wire.overheard),
        _random_gate(wire),
    ]


#: A canary's name wherever a number begins. Within one it would be found by chance: a run's figures
#: have tens of thousands of decimals, and the digits of every name among them sooner or later.
_NAME = re.compile(rb"(?<![0-9])(?<![0-9]\.)0*" + NAMES_BEGIN.encode() + rb"[0-9]{5}")


def named_gate(wire: Wire) -> Gate:
    """Return whether a patient is named in what leaves hospitals, or in files beside theirs.

    Args:
        wire: of a run over canary patients.
    """
    faults = [
        f"{one.hospital}: the answer to {one.kind} at {one.place}"
        for one in wire.sent
        if one.content is not None and _NAME.search(content_to_bytes(one.content))
    ]
    faults += [
        f"{one.hospital}: {one.code}" for one in wire.sent if _NAME.search(one.code.encode())
    ]
    inside = wire.out / "sites"
    for path in sorted(wire.out.rglob("*")):
        if path.is_file() and inside not in path.parents and _NAME.search(path.read_bytes()):
            faults.append(f"the run's {path.name}")
    return exact_gate("no patient is named", faults)


def _strange_files(wire: Wire, settings: Settings) -> Iterator[str]:
    """Yield what lies in a run's folder beside what is said to, hospitals' own folders apart."""
    for path in sorted(wire.out.iterdir()):
        if path.name not in _FILES and path.name not in _SAID and path.suffix != ".log":
            yield f"{path.name} is in the run's folder"
    found = {name: _read(wire, name) for name in _SAID}
    for name, places in _SAID.items():
        for at, known in places.items():
            for one in sorted(_keys(found[name].get(at) if at else found[name]) - known):
                yield f"{name} says {one!r}" + (f" in {at!r}" if at else "")
    yield from _counted(found, settings)
    for line in (wire.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name in sorted(set(row) - _FIGURES.get(row["kind"], frozenset(row))):
            yield f"metrics.jsonl has {name!r} in a row of kind {row['kind']!r}"


def _read(wire: Wire, name: str) -> Mapping[str, Any]:
    path = wire.out / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _keys(found: Any) -> set[str]:
    """Return the names in an object, or in all objects of a list."""
    listed = found if isinstance(found, list) else [found]
    return {name for one in listed if isinstance(one, dict) for name in one}


def _counted(found: Mapping[str, Mapping[str, Any]], settings: Settings) -> Iterator[str]:
    """Yield counts that are of others than public records, or that nobody has declared."""
    holdout, evaluation = found["privacy.json"].get("holdout") or {}, found["evaluation.json"]
    records = {
        "confusion": int(np.sum(evaluation.get("confusion") or 0)),
        "calibration": sum(one["count"] for one in evaluation.get("calibration") or []),
    }
    for name, count in records.items():
        if count and count != holdout.get("records", count):
            yield f"evaluation.json counts {count} records in its {name}, of {holdout['records']}"
    for name, said in found["doubt.json"].items():
        if (count := sum(said["patients"].values())) > holdout.get("patients", count):
            yield f"doubt.json counts {count} patients of {name}, of {holdout['patients']}"
    declared, told = settings.data.patients, found["summary.json"].get("patients")
    if declared and told not in (None, declared):
        yield f"summary.json counts {told} patients, declared are {declared}"


def _random_gate(wire: Wire) -> Gate:
    """Return whether nonces are random: none of 256 bytes is in them too often, or too seldom."""
    seen: set[bytes] = set()
    for sent in wire.sent:
        arrays = sent.content.array_records.get(ARRAYS) if sent.content is not None else None
        if arrays is not None and "header" in arrays:
            seen.add(SignedHeader.from_bytes(arrays["header"].data).header.nonce)
    drawn = np.frombuffer(b"".join(sorted(seen)), dtype=np.uint8)
    counts, law = np.bincount(drawn, minlength=256), stats.binom(drawn.size, 1.0 / 256.0)
    chances = two_sided(law.cdf(counts), law.sf(counts - 1))
    odd = int(np.argmin(chances))
    return Gate(
        name="bytes of what is random",
        subject=f"byte {odd} in {len(seen)} nonces",
        found=float(counts[odd]),
        expected=float(law.mean()),
        chance=most_odd(np.asarray(chances)),
    )
