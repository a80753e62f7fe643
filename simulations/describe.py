"""``flower-simulation describe``: look at data, draft and check what is declared of them.

Everything that is printed here is for whoever holds the data: it shows patients' values.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clients.data import Dataset
    from clients.data.column_draft import Column
    from clients.data.draft import Draft

EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation describe visits.csv",
        "flower-simulation describe visits.csv --out -",
        "flower-simulation describe visits.csv --check visits.toml",
        "flower-simulation describe --schema",
    ]
)
_BINS = 24
_BARS, _PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#%"
#: Letters of a column's name, and of its picture, that a table shows.
_NAME, _PICTURE = 20, 34


def describe(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A table, a folder, or an npz file.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check this declaration against the data.")
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Where the draft goes; '-' prints it.")
    ] = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the format of declarations as a JSON schema.")
    ] = False,
) -> None:
    """Look at your own data and draft what is declared of them.

    The draft is a TOML file beside the data; an existing one is left alone.

    Look at it and mend it, then take the names out of 'unconfirmed'.

    Private runs refuse what was taken from the data and is not confirmed.
    """
    if schema:
        from clients.data.declaration import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if path is None:
        raise typer.BadParameter("name a table, a folder, or an npz file.")
    if not path.exists():
        raise typer.BadParameter(f"{path} does not exist.")
    if check is not None:
        _check(path, check)
        return
    from clients.data.drafting import draft

    drafted = draft(path)
    if out == "-":
        typer.echo(drafted.text, nl=False)
        return
    _show(path, drafted)
    _write(path, drafted, Path(out) if out else drafted.file, chosen=bool(out))


def _show(path: Path, drafted: Draft) -> None:
    from simulations.inspection import print_table

    for fact in drafted.facts:
        typer.echo(f"{path}: {fact}")
    if drafted.columns:
        rows = [_row(one, drafted.roles.get(one.name, "")) for one in drafted.columns]
        print_table("Columns", ["column", "use", "missing", "picture"], rows)
    _list("Look at:", drafted.oddities)


def _row(column: Column, role: str) -> tuple[str, str, str, str]:
    from clients.contract.printable import printable

    whole, nothing = column.filled + column.absent, column.absent + column.coded
    missing = f"{nothing / whole:.0%}" if nothing else ""
    return (
        printable(column.name)[:_NAME],
        role or column.use,
        missing,
        printable(_picture(column, role)),
    )


def _picture(column: Column, role: str) -> str:
    """Return a histogram of one line, or the counts of a few words."""
    if role == "patient":
        return f"{column.different} different"
    if column.values:
        import numpy as np

        counts, edges = np.histogram(column.values, bins=_BINS)
        bars = _BARS if (sys.stdout.encoding or "").lower().startswith("utf") else _PLAIN_BARS
        heights = np.ceil(counts / counts.max() * (len(bars) - 1)).astype(int)
        drawn = "".join(bars[height] for height in heights)
        low, high = (_edge(column, edge) for edge in (edges[0], edges[-1]))
        return f"{low} {drawn} {high}"
    if column.counts and len(column.counts) > 1:
        return ", ".join(f"{kind} {count}" for kind, count in column.counts.items())
    return column.why


def _edge(column: Column, value: float) -> str:
    if column.use == "date":
        from datetime import date

        return date.fromordinal(int(value)).isoformat()
    return f"{value:.4g}"


def _write(path: Path, drafted: Draft, file: Path, *, chosen: bool) -> None:
    if file.exists() and not chosen:
        typer.echo(
            f"{file} is there already, and left alone; --out FILE writes the draft elsewhere."
        )
        return
    try:
        file.write_text(drafted.text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(
            f"{file} cannot be written ({error.strerror}); --out FILE writes elsewhere, --out - "
            "prints the draft."
        ) from error
    typer.echo(f"\nDrafted {file}. Look at it and mend it, then:")
    for command in (f"flower-simulation describe {path} --check {file}", drafted.command):
        typer.echo(f"  {command}")


def _check(path: Path, file: Path) -> None:
    """Read the data by a declaration, and say what would take part and what would not."""
    from clients.contract.stages import listening
    from clients.data import load_dataset
    from clients.data.declaration import read_declaration
    from clients.data.draft import name_of
    from clients.data.partition import patient_table
    from clients.data.records import readable
    from simulations.stage_bar import stage_bar

    declared = read_declaration(file)
    dataset = load_dataset(name_of(path), unconfirmed=True, declaration=file.absolute())
    with stage_bar() as listener, listening(listener):
        patient_table(readable(dataset.train), dataset.patient_names, dataset.info.question)
    for line in _counts(dataset):
        typer.echo(line)
    warnings = [*_without_records(dataset), *dataset.log.lines()]
    if declared.unconfirmed:
        names = ", ".join(declared.unconfirmed)
        warnings.append(f"not confirmed, so that no private run takes it: {names}")
    _list("Look at:", warnings)
    if not warnings:
        typer.echo(f"{file} fits.")
    if not declared.unconfirmed:
        _say_how_to_run(path, file, dataset)


def _say_how_to_run(path: Path, file: Path, dataset: Dataset) -> None:
    """Name the command that trains by a declaration, and where it must lie for that."""
    from clients.data.declaration import FOLDER_FILE
    from clients.data.draft import run_command
    from clients.tasks.question import SEGMENTATION

    place = path / FOLDER_FILE if path.is_dir() else path.with_suffix(".toml")
    if file.absolute() != place.absolute():
        typer.echo(f"A run reads {place}: put the declaration there.")
    model = {"image": "scattering", "volume": "cnn3d"}.get(dataset.info.kind, "")
    if dataset.info.task == SEGMENTATION:
        model = "unet"
    typer.echo(f"Run it:\n  {run_command(path, len(dataset.hospital_names), model)}")


def _per_class(dataset: Dataset) -> Mapping[str, int]:
    import numpy as np

    return dataset.info.question.counted(np.asarray(dataset.train.labels))


def _without_records(dataset: Dataset) -> list[str]:
    """Say which declared classes nobody has: as often spelled otherwise as rare."""
    none = [name for name, count in _per_class(dataset).items() if not count]
    if not none or not dataset.info.classes:
        return []
    return [
        f"no record is {' or '.join(none)}: nothing is learnt of what nobody has; is it spelled as "
        "in the file?"
    ]


def _counts(dataset: Dataset) -> list[str]:
    import numpy as np

    train = dataset.train
    counts = _per_class(dataset)
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    whom = "no patients are named: each record counts as one, and is what epsilon covers"
    if dataset.info.has_patient_ids:
        whom = f"{len(train.patient_ids)} patients: epsilon covers all records of one at a hospital"
    lines = [f"{len(train)} records: {each}", whom]
    if dataset.hospital_names and train.hospitals is not None:
        homes = np.bincount(train.hospitals, minlength=len(dataset.hospital_names))
        named = zip(dataset.hospital_names, homes, strict=True)
        lines.append("hospitals: " + ", ".join(f"{name} {count}" for name, count in named))
    if dataset.test is not None:
        lines.append(f"{len(dataset.test)} records to measure on, which nobody trains on")
    return lines


def _list(title: str, sentences: Sequence[str]) -> None:
    from clients.contract.printable import printable_lines

    if sentences:
        typer.echo(title)
    for sentence in sentences:
        typer.echo(f"  - {printable_lines(sentence)}")
