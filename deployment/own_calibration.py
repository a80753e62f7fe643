"""A hospital calibrates a model on its own patients, for its own use: nothing leaves it.

What comes of it is one file in the hospital's private folder. No server is asked, no ledger is
written: nothing is released, so there is nothing to account for. Records of patients that the
hospital trains on are left out, as the model has learnt from them: by the name of the patient where
patients are named, and where a record's inputs are those of a record that is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployment.checks import Finding
from deployment.errors import DeploymentError

if TYPE_CHECKING:
    from clients.data import Dataset
    from clients.data.records import DatasetInfo, Inputs, Ints
    from clients.prediction.artefact import Artefact
    from clients.prediction.asked import Asked
    from clients.prediction.own_calibration import OwnCalibration
    from clients.site.site_file import SiteFile

#: Which of a patient's records counts; any number that does not depend on the records serves.
SEED = 0
#: Records that are looked at together.
_BLOCK = 256


def calibration_file(site: SiteFile, digest: str) -> Path:
    """Return where a hospital keeps its calibration of a model."""
    return site.private / f"calibration-{digest[:32]}.json"


def read_own(site: SiteFile, digest: str) -> OwnCalibration | None:
    """Return a hospital's calibration of a model, if it has one.

    Raises:
        DeploymentError: the file is damaged, or of another model.
    """
    from clients.prediction.own_calibration import OwnCalibration

    file = calibration_file(site, digest)
    if not file.is_file():
        return None
    try:
        found = OwnCalibration.of_bytes(file.read_bytes())
    except ValueError as error:
        raise DeploymentError(f"{file}: {error}; delete it and calibrate again") from None
    if found.model != digest:
        raise DeploymentError(f"{file} is of another model; delete it and calibrate again")
    return found


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a calibration is for.

    Attributes:
        coverage: share of patients whose set is to hold the truth.
        confidence: chance that it does.
        replace: whether it may take the place of one on more patients.
    """

    coverage: float
    confidence: float
    replace: bool = False


def calibrate_site(
    folder: Path, model: Path, data: Path, wanted: Wanted, declaration: Path | None = None
) -> Iterator[Finding]:
    """Calibrate a model on a hospital's own patients, keep it there, and say what was found.

    Args:
        folder: the hospital's, with its ``site.toml``.
        model: an exported file, or a run's ``predictor.safetensors``.
        data: labelled records of patients whom the model did not learn from.
        wanted: what sets are to promise, and whether a better calibration may go.
        declaration: file that says how they are written; None for the one beside them.

    Raises:
        DeploymentError: no such record is there, or a filled column cannot be read; or patients are
            too few, or fewer than those of the calibration that is there, which stays.
        ArtefactError, DataError, SiteFileError: a file is not what it should be.
    """
    from clients.prediction.artefact import read_artefact
    from clients.prediction.asked import RowNotes
    from clients.prediction.asking import ask
    from clients.prediction.own_calibration import calibrate
    from clients.prediction.predictor import Predictor, require_classes
    from clients.site.site_file import read_site_file

    site = read_site_file(folder / "site.toml")
    predictor = Predictor(read_artefact(model), sorted(site.allowed_functions))
    require_classes(predictor.artefact)
    log = RowNotes()
    asked = ask(data, predictor.artefact.info, log, declaration)
    yield from (Finding(good=None, text=line) for line in log.lines())
    if asked.blind:
        raise DeploymentError(
            f"{data}: a column could not be read in any row: {'; '.join(asked.blind)}. Say in the "
            "declaration how it is written (--declaration)"
        )
    checked = _not_trained_on(site, predictor.artefact, asked)
    yield checked.finding
    try:
        own, figures = calibrate(predictor, checked.asked, seed=SEED)
    except ValueError as error:
        classes = ", ".join(predictor.artefact.info.classes)
        raise DeploymentError(
            f"{data}: {error} ({classes}) and is of a patient whom the model did not learn from: "
            "calibrate on labelled records of other patients"
        ) from None
    kept = _keep(site, own, wanted)
    yield from _figures(figures)
    yield kept


def _keep(site: SiteFile, own: OwnCalibration, wanted: Wanted) -> Finding:
    """Write a calibration, and say where.

    Raises:
        DeploymentError: its patients are too few, or fewer than those of the one that is there.
    """
    from clients.site.ground import private_folder
    from crypto.whole_file import write_private

    private_folder(site.private)
    file = calibration_file(site, own.model)
    before = _patients_before(site, own, wanted)
    write_private(file, own.to_bytes(), durable=True)
    instead = f", in place of one on {before} patients" if before else ""
    text = f"kept in {file}{instead}, for this hospital's own use: it tells of them"
    return Finding(good=True, text=text)


def _patients_before(site: SiteFile, own: OwnCalibration, wanted: Wanted) -> int:
    """Return on how many patients the calibration is whose place a new one takes; 0 for none.

    Raises:
        DeploymentError: it may not: it is on more patients, or the new one's are too few.
    """
    from clients.prediction.conformal import least_count

    kept, count = read_own(site, own.model), len(own.scores)
    before = 0 if kept is None else len(kept.scores)
    least = least_count(coverage=wanted.coverage, confidence=wanted.confidence)
    stays = f"; a calibration on {before} patients is kept" if before else ""
    if count < least:
        raise DeploymentError(
            f"{count} patients are too few to promise {wanted.coverage:.0%} with "
            f"{wanted.confidence:.0%} confidence, {least} are enough: calibrate on more, or for a "
            f"lower --coverage{stays or '; nothing is kept'}"
        )
    if count < before and not wanted.replace:
        raise DeploymentError(
            f"these records are of {count} patients{stays}. Where patients to come are like these "
            "alone (at a new scanner, say), --replace puts the new one in its place"
        )
    return before


def _figures(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what was calibrated on, and what it is worth."""
    text = f"calibrated on {figures['records']} records of {figures['patients']} patients"
    yield Finding(good=True, text=text)
    for name, key in (("calibration error", "ece"), ("Brier score", "brier")):
        values = figures[key]
        yield Finding(good=True, text=f"{name} {values['own']:.3f}, {values['public']:.3f} before")


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """Records to calibrate on, and what became of those that are trained on."""

    asked: Asked
    finding: Finding


def _not_trained_on(site: SiteFile, artefact: Artefact, asked: Asked) -> _Checked:
    """Return the records, without the labels of those whose patients train the model here."""
    from clients.data import load_dataset
    from clients.prediction.asked import without_labels

    if site.simulated_partition is not None:
        text = "a part of a public benchmark: whether it was trained on is not checked"
        return _Checked(asked=asked, finding=Finding(good=None, text=text))
    dataset = load_dataset(
        site.data_name,
        site.data_dir,
        image_size=artefact.info.shape[-1] if artefact.info.kind == "image" else 64,
        declared=not site.data_public,
    )
    in_headers = _named_in_headers(site)
    trained = _trained(dataset, in_headers, asked)
    named = bool(dataset.patient_names or in_headers) and any(asked.names)
    if not (len(trained) or named or _read_alike(dataset.info, artefact.info)):
        text = (
            f"whether a record is of a patient that {site.data_name} trains on is not checked: "
            "patients are not named in both, and the model reads other columns than the hospital"
        )
        return _Checked(asked=asked, finding=Finding(good=None, text=text))
    text = f"no record is of a patient that {site.data_name} trains on"
    if len(trained):
        text = f"{len(trained)} records are of patients that {site.data_name} trains on: left out"
    finding = Finding(good=None if len(trained) else True, text=text)
    return _Checked(asked=without_labels(asked, trained), finding=finding)


def _read_alike(one: DatasetInfo, other: DatasetInfo) -> bool:
    """Whether a record is the same inputs by both, so that a patient's is known again."""
    return one.shape == other.shape and one.declared == other.declared


def _named_in_headers(site: SiteFile) -> frozenset[str]:
    """Return whom the files that a hospital trains on name themselves, which no data set shows."""
    from clients.data.files import Location
    from clients.data.pictures import header_patients

    source, _, variant = site.data_name.partition(":")
    if source != "image-folder":
        return frozenset()
    where = Location(
        variant=variant, data_dir=str(site.data_dir or ""), declared=not site.data_public
    )
    return header_patients(where)


def _trained(dataset: Dataset, in_headers: frozenset[str], asked: Asked) -> Ints:
    """Return the records of patients whom a hospital trains on."""
    import numpy as np

    trained, named = dataset.train.patient_ids, dataset.patient_names
    patients = {named[number] for number in trained} | in_headers if named else set(in_headers)
    found = {row for row, name in enumerate(asked.names) if name and name in patients}
    known = set(_digests(dataset.train.inputs))
    for row, digest in zip(asked.rows.tolist(), _digests(asked.inputs), strict=True):
        if digest in known:
            found.add(row)
    whose = set(asked.patients[sorted(found)].tolist())
    return np.asarray(
        [row for row in range(len(asked)) if int(asked.patients[row]) in whose], dtype=np.int64
    )


def _digests(inputs: Inputs) -> Iterator[bytes]:
    """Return a digest of each record's inputs."""
    import numpy as np

    for start in range(0, len(inputs), _BLOCK):
        block = np.asarray(inputs[start : start + _BLOCK], dtype=np.float32)
        for row in block:
            yield hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest()
