"""The commands that use what a run left: predict, and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clients.contract.plain_json import json_text
from simulations.prediction.predicting import Explaining, Request

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run folder, its name in runs/, 'latest', or an exported file."
    ),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="PATH",
        help="Table, folder of pictures, picture or npz as in training; 'holdout': the run's own.",
    ),
]
Declared = Annotated[
    Path | None,
    typer.Option(
        "--declaration",
        metavar="FILE",
        help="How the data are written; else the declaration beside them, else the model's own.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="FILE", help="The table: .csv or .parquet.")]
Evaluate = Annotated[bool, typer.Option("--evaluate", help="Say how good, where labels are there.")]
Coverage = Annotated[
    float, typer.Option(min=0.01, max=0.999, help="Share of patients whose set holds the truth.")
]
Confidence = Annotated[
    float, typer.Option(min=0.5, max=0.9999, help="Chance that sets hold it as often as asked.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE:FUNCTION", help="Import this to build a model of your own."),
]
Iterates = Annotated[
    bool, typer.Option("--iterates", help="Let the run's last releases decide together.")
]
Explain = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a page that says why: one self-contained .html."),
]
ByGradients = Annotated[
    bool,
    typer.Option(
        "--gradients", help="With --explain: of pictures what each pixel adds, by gradients."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write over the files of earlier predictions.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

PREDICT_EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation predict latest --data holdout --evaluate",
        "flower-simulation predict latest --data visits.csv --out predictions.csv --explain p.html",
        "flower-simulation predict latest --data new.csv --declaration visits.toml",
        "flower-simulation predict model.safetensors --data pictures/ --explain p.html --gradients",
    ]
)


EXPORT_EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation export latest --to safetensors",
        "flower-simulation export latest --to onnx --out model-onnx",
        "flower-simulation export latest --to monai-bundle --intended-use 'Triage studies.'",
    ]
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("predict", epilog=PREDICT_EXAMPLES)(predict)
    app.command("export", epilog=EXPORT_EXAMPLES)(export)


def predict(
    model: Model,
    data: Data,
    declaration: Declared = None,
    out: Out = Path("predictions.csv"),
    evaluate: Evaluate = False,
    iterates: Iterates = False,
    explain: Explain = None,
    gradients: ByGradients = False,
    coverage: Coverage = 0.9,
    confidence: Confidence = 0.99,
    allow: Allow = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict: calibrated probabilities, prediction sets, and where to abstain.

    Every record is in the table, in order; what cannot be read has an empty prediction and a note.
    It fails, with the table written, where no record can be read, or nothing of a filled column.
    """
    request = Request(
        model=model,
        data=data,
        declaration=declaration,
        out=out,
        iterates=iterates,
        coverage=coverage,
        confidence=confidence,
        allowed=allow or (),
        overwrite=overwrite,
    )
    page = Explaining.asked(explain, gradients=gradients)
    carry_out(request, evaluate=evaluate, page=page, as_json=as_json)


def export(
    model: Model,
    to: Annotated[
        str, typer.Option("--to", help="safetensors, onnx, torchscript or monai-bundle.")
    ] = "safetensors",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder; else export-FORM in the run.")
    ] = None,
    iterates: Iterates = False,
    intended_use: Annotated[str, typer.Option(help="What it is meant for, for its card.")] = "",
    allow: Allow = None,
) -> None:
    """Export a model with its card, checked by reading it again and comparing what it predicts."""
    from clients.contract.printable import printable
    from simulations.prediction import exporting

    place = exporting.export(
        model, to, out, iterates=iterates, intended=intended_use, allowed=allow or ()
    )
    typer.echo(printable(str(place)))


def carry_out(request: Request, *, evaluate: bool, page: Explaining | None, as_json: bool) -> None:
    """Predict, write the table, and say what came of it.

    Raises:
        NotPredicted, NoRun, ArtefactError, DataError: what was asked for cannot be had.
    """
    from clients.contract.printable import printable
    from clients.prediction.predictions import Predictions
    from simulations.prediction import predicting, written

    predicting.check_out(request.out, request.data, overwrite=request.overwrite)
    if page is not None:
        predicting.check_page(page.file, overwrite=request.overwrite)
    predictor, made, odd = predicting.predictions_for(request)
    if page is not None:
        predicting.check_explained(page, predictor)
    found = predicting.evaluated(made, request.data, odd) if evaluate else {}
    written.write_table(made, request.out)
    masks = written.write_masks(made, request.out)
    doubt = predicting.doubt_text(request, predictor.artefact)
    if page is not None and isinstance(made, Predictions):
        from simulations.prediction.page import write_page

        write_page(page, predictor, made, doubt, found)
    rows = predicting.lines_of(made, doubt, odd)
    if as_json:
        unread = made.asked.unread
        told = {
            "records": len(made.asked),
            "unread": unread,
            "columns": len(made.asked.columns),
            "unread_columns": list(made.asked.blind),
            "file": str(request.out),
        }
        typer.echo(json_text({**told, "evaluation": found or None}, indent=2))
        predicting.check_predicted(made, request.out)
        return
    _show("Predictions", rows)
    if found:
        _show("How good they are", predicting.evaluation_rows(found))
    for file in (request.out, *masks, page.file if page is not None else None):
        if file is not None:
            typer.echo(printable(str(file)))
    predicting.check_predicted(made, request.out)


def _show(title: str, rows: list[tuple[str, str]]) -> None:
    from rich.console import Console

    from simulations.pages.tables import plain_table, show_table

    console = Console()
    table = plain_table(title, ["what", "value"], rows)
    table.show_header = False
    show_table(console, table)
