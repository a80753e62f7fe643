"""Predicting from the command line: find a model, read records, write a table, say how good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strategies.predictors import ITERATES, PREDICTOR

if TYPE_CHECKING:
    from clients.prediction.answered import Answered
    from clients.prediction.artefact import Artefact
    from clients.prediction.asked import Asked
    from clients.prediction.own_calibration import OwnCalibration
    from clients.prediction.predictions import Predictions
    from clients.prediction.predictor import Predictor

#: In the place of a path: the public holdout of the run itself.
HOLDOUT = "holdout"
#: Records that are named one by one where they could not be read.
MOST_NAMED = 10


class NotPredicted(Exception):
    """Nothing was predicted; the message says why and what to do."""


class PredictionFailed(NotPredicted):
    """What was begun has failed, or in part: its table, if it was written, says more."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        model: a run folder, its name, 'latest', or a file.
        data: a path, or `HOLDOUT`.
        declaration: file that says how the data are written; None for the one beside them.
        out: where the table goes: .csv or .parquet.
        iterates: whether the run's last releases decide together.
        coverage: share of patients whose set is to hold the truth.
        confidence: chance that it does.
        allowed: functions that may be imported to build the model.
        own: the hospital's own calibration, where it has one.
        overwrite: whether files that are there already may be written over.
    """

    model: str
    data: str
    declaration: Path | None = None
    out: Path
    iterates: bool = False
    coverage: float
    confidence: float
    allowed: Sequence[str] = ()
    own: OwnCalibration | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Explaining:
    """A page that says why.

    Attributes:
        file: where to.
        gradients: whether pictures are explained pixel by pixel, and not by hiding patches.
    """

    file: Path
    gradients: bool = False

    @classmethod
    def asked(cls, file: Path | None, *, gradients: bool) -> Explaining | None:
        """Return what the options ask for; None for no page.

        Raises:
            NotPredicted: they ask how, and for no page.
        """
        if file is None and gradients:
            raise NotPredicted("--gradients is how --explain explains: name its page as well")
        return None if file is None else cls(file, gradients)


def find_artefact(name: str, *, iterates: bool = False) -> Artefact:
    """Return the model of a run, or in a file.

    Raises:
        NoRun: the name is neither a file's nor a run's.
        NotPredicted: the run released no model, or no second one to put beside it.
        ArtefactError: the file is no model.
    """
    from clients.prediction.artefact import read_artefact
    from strategies.run.reading import find_run

    if Path(name).is_file():
        if iterates:
            raise NotPredicted(
                f"{name} is a file, which says itself which models decide; --iterates is for a run"
            )
        return read_artefact(Path(name))
    folder = find_run(name)
    if iterates and not (folder / ITERATES).is_file():
        raise NotPredicted(
            f"{folder} has no {ITERATES}: it released one model alone. Models are released on the "
            "way where there is noise, every training.release-every rounds"
        )
    file = folder / (ITERATES if iterates else PREDICTOR)
    if not file.is_file():
        raise NotPredicted(
            f"{folder} has no {PREDICTOR}: it ended before a model was released, or was run by an "
            "earlier version"
        )
    return read_artefact(file)


def read_asked(request: Request, artefact: Artefact) -> tuple[Asked, tuple[str, ...]]:
    """Return the records, and what could not be read of them in a line a kind.

    Raises:
        DataError: they are not there, or no records that the model knows.
    """
    from clients.prediction.asked import RowNotes
    from clients.prediction.asking import ask, ask_records

    log = RowNotes()
    if request.data != HOLDOUT:
        path = Path(request.data).expanduser()
        asked = ask(path, artefact.info, log, request.declaration)
        return asked, (*log.lines(), *_unsaid(request, artefact, log.lines()))
    from clients.data import Cohorts
    from strategies.run.reading import find_run, read_settings

    if request.declaration is not None:
        raise NotPredicted("--data holdout is as the run declared it: leave --declaration out")
    if Path(request.model).is_file():
        raise NotPredicted("--data holdout is a run's own: name the run, or give a path")
    settings = read_settings(find_run(request.model))
    return ask_records(Cohorts().of(settings).holdout), ()


def _unsaid(request: Request, artefact: Artefact, odd: Sequence[str]) -> list[str]:
    """Say what may be behind odd cells of a table beside which nothing says how it is written."""
    from clients.data.declaration import FOLDER_FILE

    path = Path(request.data).expanduser()
    form = path / FOLDER_FILE if path.is_dir() else path.with_suffix(".toml")
    declared = request.declaration is not None or form.exists()
    if not (odd and artefact.info.declared) or artefact.info.kind != "table" or declared:
        return []
    return [
        f"no {form.name} beside it says how dates, numbers and absent values are written in it: if "
        "it is written as what was trained on, name that file's declaration with --declaration"
    ]


def check_predicted(made: Predictions | Answered, out: Path) -> None:
    """Insist that predictions are of what was asked, once their table is written.

    Raises:
        PredictionFailed: no record could be read, or of a column that is filled nothing.
    """
    asked = made.asked
    if not len(asked.rows):
        why = next((note for note in asked.notes if note), "there is none")
        raise PredictionFailed(
            f"none of {len(asked):,} records could be read, so nothing is predicted: {why}; "
            f"{out} has a note for each"
        )
    if asked.blind:
        raise PredictionFailed(
            f"{len(asked.blind)} of {len(asked.columns)} columns could not be read in any row, and "
            f"are missing values in all {len(asked):,} predictions of {out}: "
            f"{'; '.join(asked.blind)}. Say in the declaration how they are written (--declaration)"
        )


def predictions_for(
    request: Request,
) -> tuple[Predictor, Predictions | Answered, tuple[str, ...]]:
    """Return the model, what it says of the records, and what could not be read of them.

    Raises:
        NotPredicted, NoRun, ArtefactError, DataError: what was asked for cannot be had.
    """
    from clients.prediction.answered import answer
    from clients.prediction.predictions import predict
    from clients.prediction.predictor import Predictor

    artefact = find_artefact(request.model, iterates=request.iterates)
    predictor = Predictor(artefact, request.allowed)
    asked, odd = read_asked(request, artefact)
    if not artefact.info.question.of_classes:
        return predictor, answer(predictor, asked), odd
    own = _own_of(request, artefact)
    judge = artefact.doubt if own is None else own
    threshold = judge.threshold(request.coverage, request.confidence)
    made = predict(
        predictor,
        asked,
        coverage=request.coverage,
        threshold=threshold,
        temperature=0.0 if own is None else own.temperature,
    )
    return predictor, made, odd


def _own_of(request: Request, artefact: Artefact) -> OwnCalibration | None:
    """Return the hospital's calibration, if it is of this model."""
    own = request.own
    return own if own is not None and own.model == artefact.digest else None


def check_out(out: Path, data: str, *, overwrite: bool) -> None:
    """Refuse to write over what is read, or unasked over anything, before anything is computed.

    Raises:
        NotPredicted: it would be, or the folder is not there.
    """
    if data != HOLDOUT and out.resolve() == Path(data).expanduser().resolve():
        raise NotPredicted(f"{out} is the data: name another file with --out")
    if out.suffix.lower() not in (".csv", ".parquet", ".pq"):
        raise NotPredicted(f"{out} is no table; expected a name that ends in .csv or .parquet")
    if not out.absolute().parent.is_dir():
        raise NotPredicted(f"{out.absolute().parent} is no folder; make it, or name another --out")
    if not overwrite:
        for file in (out, masks_file(out)):
            _check_free(file, "--out")


def _check_free(file: Path, option: str) -> None:
    if file.exists():
        raise NotPredicted(
            f"{file} exists already: name another file with {option}, or say --overwrite"
        )


def masks_file(out: Path) -> Path:
    """Return where masks lie beside a table, where a model says the class of each pixel."""
    return out.with_suffix(".masks.npz")


def check_page(file: Path, *, overwrite: bool) -> None:
    """Refuse a page that cannot be written, or unasked over another, before anything is computed.

    Raises:
        NotPredicted: so it is.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise NotPredicted(f"{file} is no page; expected a name that ends in .html")
    if not file.absolute().parent.is_dir():
        raise NotPredicted(f"{file.absolute().parent} is no folder; make it first")
    if not overwrite:
        _check_free(file, "--explain")


def evaluated(made: Predictions | Answered, data: str, odd: Sequence[str]) -> dict[str, Any]:
    """Return how good predictions are.

    Raises:
        NotPredicted: no record has its truth beside it.
    """
    try:
        return made.evaluation()
    except ValueError as error:
        known = f" ({', '.join(made.classes)})" if made.classes else ""
        raise NotPredicted(
            f"{data}: {error}{known}, so --evaluate has nothing to hold predictions against"
            f"{''.join(f'; {line}' for line in odd)}"
        ) from None


def check_explained(page: Explaining, predictor: Predictor) -> None:
    """Refuse a page of no classes, and gradients that the model does not have.

    Raises:
        ArtefactError: the model does not tell one class of several.
        NotPredicted: it is not of pictures or volumes, or has none.
    """
    import numpy as np

    from clients.data.records import SPATIAL_KINDS
    from clients.prediction.explaining import NoGradients, gradient_weights
    from clients.prediction.predictor import require_classes

    require_classes(predictor.artefact)
    info = predictor.artefact.info
    if not page.gradients:
        return
    if info.kind not in SPATIAL_KINDS:
        raise NotPredicted(
            f"--gradients is for pictures and volumes; the model is of {info.kind} data"
        )
    try:
        low, high = info.input_range
        drawn = np.random.default_rng(0).uniform(low, high, info.shape).astype(np.float32)
        gradient_weights(predictor, drawn, steps=1)
    except NoGradients as error:
        raise NotPredicted(f"--gradients: {error}; leave it out, and patches are hidden") from None


def lines_of(made: Predictions | Answered, doubt: str, odd: Sequence[str]) -> list[tuple[str, str]]:
    """Return label and value of what was predicted, for the terminal."""
    from clients.prediction.predictions import Predictions

    asked = made.asked
    rows = [
        ("records", f"{len(asked):,}"),
        ("predicted", f"{len(asked.rows):,}"),
        *_columns(asked),
    ]
    if isinstance(made, Predictions):
        many = int((made.sets.sum(axis=1) > 1).sum())
        rows += [("abstained: more than one class in the set", f"{many:,}"), ("sets", doubt)]
    if unread := asked.unread:
        key, places = next(iter(asked.keys.items()))
        named = ", ".join(places[row] for row in unread[:MOST_NAMED])
        more = f" and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
        rows.append((f"not readable: {len(unread)}", f"{key} {named}{more}"))
    return [*rows, *(("odd", line) for line in odd)]


def _columns(asked: Asked) -> list[tuple[str, str]]:
    """Say how many columns of a table could be read."""
    whole = len(asked.columns)
    if not whole:
        return []
    blind = len(asked.blind)
    return [
        ("columns", f"{whole - blind:,} of {whole:,} read" if blind else f"{whole:,}, all read")
    ]


def doubt_text(request: Request, artefact: Artefact) -> str:
    """Say what sets promise, and of whom."""
    from clients.prediction.conformal import least_count

    if not artefact.info.question.of_classes:
        return ""

    own = _own_of(request, artefact)
    scores = artefact.doubt.scores if own is None else own.scores
    whose = (
        "patients of this hospital"
        if own is not None
        else "patients like those of the public holdout"
    )
    levels = {"coverage": request.coverage, "confidence": request.confidence}
    least = least_count(**levels)
    if len(scores) < least:
        return (
            f"of all classes: {len(scores)} patients are too few to promise {request.coverage:.0%} "
            f"with {request.confidence:.0%} confidence, {least} are enough (a "
            "larger data.holdout, or a lower --coverage)"
        )
    return (
        f"hold the truth of {request.coverage:.0%} of {whose} ({request.confidence:.0%} "
        f"confidence, {len(scores)} patients)"
    )


def evaluation_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return label and value of an evaluation, for the terminal."""
    from simulations.pages.merit import LEARNT, nothing_text
    from simulations.pages.task_words import figure_rows, part_rows
    from simulations.pages.wording import share_text

    if "task" in found:
        told = [("records with their truth", f"{found['records']:,}")]
        return [*told, *figure_rows(found), *part_rows(found["task"], found["rows"])]
    rows = [("records with a label", f"{found['records']:,}")]
    if found["one_guess"]:
        rows.append((LEARNT, nothing_text(found["one_guess"])))
    for key in ("accuracy", "balanced_accuracy", "auc", "kappa"):
        if key in found:
            rows.append((key.replace("_", " ").replace("auc", "AUC"), share_text(found[key])))
    for key, name in (("ece", "calibration error"), ("brier", "Brier score")):
        before, after = (share_text(found[key][when]) for when in ("before", "after"))
        rows.append((f"{name}, calibrated", f"{after} ({before} before)"))
    asked = f"{found['asked_coverage']:.0%}"
    rows += [
        (f"sets that hold the truth, {asked} asked", share_text(found["coverage"])),
        *(
            (f"  of {name}", share_text(value))
            for name, value in found["coverage_by_class"].items()
        ),
        ("classes in a set, mean", f"{found['mean_set_size']:.2f}"),
        ("abstained", share_text(found["abstained"])),
        ("accuracy where it did not", share_text(found["accuracy_where_not"])),
    ]
    return rows
