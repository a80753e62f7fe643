"""``asclepias deidentify``: a table for others, in which patients are harder to find.

What is printed are counts and names of columns: never a cell of the table, in no error either.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployment.errors import DeploymentError, DeploymentFailed

if TYPE_CHECKING:
    from clients.data.deidentified import Deidentified, Wanted
    from clients.data.identified import Identified

EPILOG = "\n\n".join(
    [
        "Examples:",
        "asclepias deidentify visits.csv",
        "asclepias deidentify visits.csv --known age --known sex --k 10 --l 2",
        "asclepias deidentify visits.xlsx --declaration visits.toml --out for-lyon.csv "
        "--key /srv/asclepias/pseudonyms.key",
    ]
)


Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A new file; TABLE-deidentified.csv if not said."),
]
Declared = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What is declared of the table; else TABLE.toml."),
]
Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The site's key, made if there is none; else pseudonyms.key beside the table. It "
        "never goes where the table goes.",
    ),
]
Known = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column that somebody may know of a patient; may be given repeatedly. Else all but "
        "the one to predict.",
    ),
]
LeftOut = Annotated[
    float, typer.Option(min=0.0, max=0.5, help="Share of patients that may be left out instead.")
]


def deidentify(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="CSV, Excel (.xlsx) or Parquet, as in training.")
    ],
    out: Out = None,
    declaration: Declared = None,
    key: Key = None,
    k: Annotated[int, typer.Option(min=1, help="The fewest patients who may be alike.")] = 5,
    l: Annotated[  # noqa: E741 - the field's own name for it
        int, typer.Option(min=1, help="The fewest classes among patients who are alike.")
    ] = 1,
    known: Known = None,
    most_left_out: LeftOut = 0.05,
) -> None:
    """Make a table harder to link to people: pseudonyms, shifted dates, columns less exact.

    Patients are renamed, and their dates moved, under a key that stays here. Columns are told less
    exactly until k patients are alike in what may be known of them; undeclared columns are left
    out. Shown are k-anonymity and l-diversity before and after. None of this is a guarantee: for
    one, train with an epsilon and share the model.
    """
    from clients.data.deidentified import Wanted

    out = out or table.with_name(f"{table.stem}-deidentified.csv")
    declaration = declaration or table.with_suffix(".toml")
    for file in (out, out.with_suffix(".toml")):
        if file.exists():
            raise DeploymentError(f"{file} exists already; move it away, or name another by --out.")
    wanted = Wanted(k=k, l=l, known=tuple(known) if known else None, most_left_out=most_left_out)
    try:
        _carry_out(table, declaration, key or table.with_name("pseudonyms.key"), out, wanted)
    except Exception as error:
        raise _told(table, error) from None


def _told(table: Path, error: Exception) -> Exception:
    """Return an error without a cell in it, whatever the one was that came."""
    from clients.data.errors import DataError

    if isinstance(error, DataError | DeploymentError | OSError):
        return error
    return DeploymentFailed(
        f"{table}: de-identifying failed by a {type(error).__name__}, whose text could hold cells "
        "of the table and is not shown. Nothing was written."
    )


def _carry_out(table: Path, declaration: Path, key: Path, out: Path, wanted: Wanted) -> None:
    from clients.data.deidentified import deidentify as made_of
    from clients.data.identified import read_identified
    from clients.data.pseudonyms import read_key
    from crypto.whole_file import write_shared

    read = read_identified(table, declaration)
    made = made_of(read, read_key(key), wanted)
    write_shared(out.with_suffix(".toml"), _declaration(read, made).encode())
    write_shared(out, _csv(made.rows, read.declared.hospital).encode())
    _show(read, made)
    typer.echo(f"Written: {out}, and {out.with_suffix('.toml')}, by which it is read.")
    typer.echo(f"Stays here: {key}. Whoever has it can tell whose rows are whose.")


def _csv(rows: list[list[str]], hospital: str) -> str:
    from simulations.prediction.spreadsheet import cell

    # Of all that is written, names of hospitals alone are neither made here nor declared.
    home = rows[0].index(hospital) if hospital else len(rows[0])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [cell(one) if at == home else one for at, one in enumerate(row)] for row in rows
    )
    return text.getvalue()


def _declaration(read: Identified, made: Deidentified) -> str:
    """Return the declaration of what is written."""
    import tomli_w

    declared = read.declared
    found: dict[str, Any] = {"target": declared.target, "classes": list(declared.classes)}
    if declared.ordinal:
        found["ordinal"] = True
    for name in ("patient", "hospital"):
        if column := getattr(declared, name):
            found[name] = column
    found["ranges"] = {
        name: [one.low, one.high] if one.origin is None else re.findall(r'"([^"]+)"', str(one))
        for name, one in declared.ranges.items()
    }
    found["kinds"] = {
        name: [*kinds, *([made.joined[name]] if name in made.joined else [])]
        for name, kinds in declared.kinds.items()
    }
    if declared.missing.columns:
        found["missing"] = {"columns": list(declared.missing.columns)}
    found["file"] = {"separator": ",", "decimal": ".", "encoding": "utf-8"}
    return tomli_w.dumps(found)


def _show(read: Identified, made: Deidentified) -> None:
    from clients.contract.printable import printable
    from simulations.inspection import print_table

    before, after = made.before, made.after
    print_table(
        "Patients whom nobody else equals",
        ["by", "before#", "after#", "what was done"],
        [
            *(
                (printable(name), str(was), str(now), made.changes[name])
                for name, (was, now) in made.alone.items()
            ),
            ("all of these", str(before.alone), str(after.alone), ""),
        ],
    )
    typer.echo(f"k-anonymity: {before.k} before, {after.k} after.")
    typer.echo(
        f"l-diversity of {printable(read.declared.target)}: {before.l} before, {after.l} after."
    )
    named = "" if read.declared.patient else " (none is named: each row counts as one)"
    typer.echo(f"Patients: {before.patients} before, {after.patients} after{named}.")
    if read.unread:
        typer.echo(f"Columns left out, declared nowhere: {len(read.unread)}.")
    for kind, count in read.log.counts().items():
        typer.echo(f"{kind}: {count}.")
