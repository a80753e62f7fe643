"""The commands with which a hospital uses a model: predict, and calibrate on its own patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations.prediction.commands import (
    AsJson,
    ByGradients,
    Confidence,
    Coverage,
    Declared,
    Evaluate,
    Explain,
    Out,
    Overwrite,
)

Site = Annotated[Path, typer.Option(metavar="DIR", help="The hospital's folder.")]
Model = Annotated[
    Path, typer.Option(metavar="FILE", help="An exported model, or a run's predictor.safetensors.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    where = "--site consortium/sites/lyon --model predictor.safetensors --data visits-2026.csv"
    app.command("calibrate", epilog=f"Example: asclepias calibrate {where}")(calibrate)
    app.command("predict", epilog=f"Example: asclepias predict {where} --out predictions.csv")(
        predict
    )


def calibrate(
    model: Model,
    data: Annotated[
        Path,
        typer.Option(metavar="PATH", help="Labelled records of patients not trained on."),
    ],
    declaration: Declared = None,
    site: Site = Path(),
    coverage: Coverage = 0.9,
    confidence: Confidence = 0.99,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up a calibration on more patients for this one.")
    ] = False,
) -> None:
    """Calibrate a model on a hospital's own patients, for its own use: nothing leaves.

    'asclepias predict' then makes sets that hold the truth of this hospital's patients as often as
    asked. No epsilon is spent, as nothing is released. Nothing is kept where patients are too few
    for that, or fewer than those of the calibration that is there.
    """
    from deployment.own_calibration import Wanted, calibrate_site
    from deployment.report import line

    wanted = Wanted(coverage=coverage, confidence=confidence, replace=replace)
    for finding in calibrate_site(site, model, data, wanted, declaration):
        line(finding.good, finding.text)


def predict(
    model: Model,
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Table, folder of pictures, or npz as in training.")
    ],
    declaration: Declared = None,
    site: Site = Path(),
    out: Out = Path("predictions.csv"),
    evaluate: Evaluate = False,
    explain: Explain = None,
    gradients: ByGradients = False,
    coverage: Coverage = 0.9,
    confidence: Confidence = 0.99,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict at a hospital, with its own calibration of the model if it has one.

    Every record is in the table, in order; what cannot be read has an empty prediction and a note.
    """
    from clients.prediction.artefact import read_artefact
    from clients.site.site_file import read_site_file
    from deployment.own_calibration import read_own
    from simulations.prediction.commands import carry_out
    from simulations.prediction.predicting import Explaining, Request

    file = read_site_file(site / "site.toml")
    request = Request(
        model=str(model),
        data=str(data),
        declaration=declaration,
        out=out,
        coverage=coverage,
        confidence=confidence,
        allowed=sorted(file.allowed_functions),
        own=read_own(file, read_artefact(model).digest),
        overwrite=overwrite,
    )
    page = Explaining.asked(explain, gradients=gradients)
    carry_out(request, evaluate=evaluate, page=page, as_json=as_json)
