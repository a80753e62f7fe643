"""A first declaration of a table, drafted from the table for a person to look at and mend."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clients.data.column_draft import Column, look_at
from clients.data.declaration import FOLDER_FILE
from clients.data.declared_parts import FileForm
from clients.data.dialect import ABSENT, Dialect
from clients.data.draft import (
    Draft,
    class_line,
    in_several,
    run_command,
    toml_key,
    toml_list,
    toml_string,
    unconfirmed_lines,
)
from clients.data.errors import DataError
from clients.data.file_form import Seen, look
from clients.data.reading_log import ReadingLog
from clients.data.rows import Table, read_rows

#: The column that says which file, named after its hospital, a row comes from.
HOME = "(file)"
#: Most classes that a column is taken to have.
_MOST_CLASSES = 12
_PATIENT = (
    r"p(atient(in)?)?[_ -]?(id|nr|no|code|key)?|pid|mrn|subj(ect)?[_ -]?(id)?|pseudonym|"
    r"case[_ -]?id|id|pat(ienten?)?[_ -]?(id|nr|nummer|kennung)|fall[_ -]?(id|nr|nummer)|ipp|"
    r"(num[eé]ro[_ -]?)?dossier|paziente|paciente|nhc"
)
#: Identifiers by their form, and how many different ones there are at least.
_CODED, _FEWEST_PATIENTS = r"[A-Za-z]{1,5}[-_ ]?\d+", 5
_HOSPITAL = (
    r"(hospital|site|cent(er|re|ro)|clini(c|que|ca)|institution|facility|"
    r"((kranken|stamm)?haus|klinik(um)?|spital|zentrum|standort|einrichtung)|"
    r"h[oô]pital|[eé]tablissement|ospedale|sede|struttura)([_ -]?(id|name|nr|nom|nome))?"
)
_TARGET = (
    r"target|outcome|label|class|y|diagnosis|grade|dead|died|death|mortality|event|status|"
    r"readmi\w*|result|response|survived|ill|disease|findings?|labels|finding[ _]labels?|"
    r"befund|diagnos[eit]|diagnostic|ergebnis|verstorben|d[eé]c[eè]s|esito|deceduto|resultado"
)
#: One of the two ends that a column of outcomes tells apart, whatever the column is called.
_ENDS = frozenset(
    {
        *("alive", "benign", "discharged", "survived", "survivor"),
        *("lebt", "überlebt", "gutartig", "vivant", "bénin", "vivo", "benigno"),
    }
)
_AFTER = r"time|follow[_ -]?up.*|survival.*|duration|event|(days|months|time)[_ -]to[_ -].*"


def _read_all(files: Sequence[Path], log: ReadingLog) -> tuple[Table, Seen]:
    """Return the rows of a table's files, and how they are written where all are alike."""
    looks = [look(file) for file in files]
    tables = [read_rows(file, (), log, seen.form) for file, seen in zip(files, looks, strict=True)]
    first, seen = tables[0], looks[0]
    if len(files) == 1:
        return first, seen
    doubts = [
        f"{file.name} has other columns than {files[0].name}: "
        f"{', '.join(sorted(set(first.header) ^ set(table.header)))}"
        for file, table in zip(files, tables, strict=True)
        if set(table.header) != set(first.header)
    ]
    if any(one.form != seen.form for one in looks):
        doubts.append("the files are written in several ways: none is declared, each says its own")
        seen = Seen(form=FileForm(), doubts=seen.doubts)
    names = [name for name in first.header if all(name in one.header for one in tables)]
    rows = [
        (place, {**{name: row[name] for name in names}, HOME: file.stem})
        for file, table in zip(files, tables, strict=True)
        for place, row in table.rows
    ]
    return (
        Table(header=(*names, HOME), rows=rows, dialect=first.dialect),
        Seen(form=seen.form, doubts=(*seen.doubts, *doubts)),
    )


def draft_table(path: Path, files: Sequence[Path]) -> Draft:
    """Look at a table, and draft what could be declared of it.

    Args:
        path: the file, or the folder of files that are a hospital's each.
        files: one or more.

    Raises:
        DataError: it cannot be read, or has no row.
    """
    log = ReadingLog()
    table, seen = _read_all(files, log)
    if not table.rows:
        raise DataError(f"{files[0]}: no row below the header", code="unreadable")
    cells = {
        name: [row[name] for _, row in table.rows] for name in dict.fromkeys(table.header) if name
    }
    columns = columns_of(cells, table.dialect)
    roles = roles_of(columns, cells)
    columns = _with_outcome(_without_twins(columns, roles, cells), roles, cells)
    oddities = [
        *seen.doubts,
        *(f"{line}" for line in log.lines()),
        *(
            f"two columns are called {name!r}: rename one in the file, or neither can be used"
            for name, count in Counter(table.header).items()
            if count > 1 and name
        ),
        *(f"{one.name}: {odd}" for one in columns for odd in one.oddities),
        *_of_patients(table, roles),
        *_after_the_outcome(columns, roles),
    ]
    if "target" not in roles.values():
        oddities.append(_no_outcome(columns))
    if "patient" not in roles.values():
        oddities.append(
            "no column looks like a patient's identifier: without one each row counts as a patient "
            "of its own, and what is promised holds for a row, not for a patient with several"
        )
    return Draft(
        columns=columns,
        rows=len(table.rows),
        roles=roles,
        oddities=tuple(oddities),
        text=_text(path, columns, roles, cells, seen),
        file=path / FOLDER_FILE if path.is_dir() else path.with_suffix(".toml"),
        command=run_command(path, _hospitals(roles, cells)),
        facts=(f"{len(table.rows)} rows, {len(columns)} columns",),
    )


def _hospitals(roles: dict[str, str], cells: dict[str, list[str]]) -> int:
    """Return how many hospitals a table names."""
    homes = [cells[column] for column, role in roles.items() if role == "hospital"]
    return _different(homes[0]) if homes else 0


def columns_of(cells: dict[str, list[str]], dialect: Dialect) -> tuple[Column, ...]:
    """Return what each column seems to be."""
    return tuple(look_at(name, found, dialect) for name, found in cells.items())


def _with_outcome(
    columns: Sequence[Column], roles: dict[str, str], cells: dict[str, list[str]]
) -> tuple[Column, ...]:
    """Return the columns; of the outcome a number may be a class, and a word one of its labels."""

    def known(column: Column) -> Column:
        if roles.get(column.name) != "target":
            return column
        mine = cells[column.name]
        words = () if any("|" in cell for cell in mine) else column.words
        return replace(column, codes=words, coded=sum(cell in words for cell in mine))

    return tuple(map(known, columns))


def _without_twins(
    columns: Sequence[Column], roles: dict[str, str], cells: dict[str, list[str]]
) -> tuple[Column, ...]:
    """Return the columns, those unused that say what an earlier one or the outcome says already."""
    first: dict[tuple[str, ...], str] = {}
    found = []
    # The outcome comes first: what repeats it gives it away, wherever it stands.
    for column in sorted(columns, key=lambda one: roles.get(one.name) != "target"):
        content = tuple(cell.casefold() for cell in cells[column.name])
        twin = first.setdefault(content, column.name)
        if twin != column.name and column.name not in roles and column.use != "unused":
            why = f"the same as {twin} in every row"
            odd = f"{why}, so that the draft leaves it out"
            if roles.get(twin) == "target":
                odd = f"{why}: it gives the outcome away, and the draft leaves it out"
            column = replace(column, use="unused", why=why, oddities=(odd,))
        found.append(column)
    places = {one.name: place for place, one in enumerate(columns)}
    return tuple(sorted(found, key=lambda one: places[one.name]))


def roles_of(columns: Sequence[Column], cells: dict[str, list[str]]) -> dict[str, str]:
    """Return which columns seem to name patient, hospital and outcome."""
    roles: dict[str, str] = {HOME: "hospital"} if HOME in cells else {}
    for role, pattern in (("patient", _PATIENT), ("hospital", _HOSPITAL), ("target", _TARGET)):
        named = [one for one in columns if re.fullmatch(pattern, one.name, re.IGNORECASE)]
        for column in [] if role in roles.values() else named:
            if column.name not in roles and _may_be(role, column):
                roles[column.name] = role
                break
    if "patient" not in roles.values():
        # By what stands in it: p017, or MRN-0042.
        coded = [
            one.name
            for one in columns
            if one.name not in roles
            and one.different > _FEWEST_PATIENTS
            and all(re.fullmatch(_CODED, cell) for cell in cells[one.name] if cell)
        ]
        roles |= dict.fromkeys(coded[:1], "patient")
    if "target" not in roles.values():
        labels = [
            one.name
            for one in columns
            if re.fullmatch(_TARGET, one.name, re.IGNORECASE)
            and one.name not in roles
            and any("|" in cell for cell in cells[one.name])
        ]
        roles |= dict.fromkeys(labels[:1], "target")
    if "target" not in roles.values():
        # By what stands in it, if that is so of one column alone: lebt, or verstorben.
        ends = [
            one.name
            for one in columns
            if one.name not in roles
            and _may_be("target", one)
            and _ENDS & {cell.casefold() for cell in cells[one.name]}
        ]
        roles |= dict.fromkeys(ends if len(ends) == 1 else [], "target")
    return roles


def _may_be(role: str, column: Column) -> bool:
    """Whether a column holds as many different words as its role has."""
    if role == "patient":
        return column.different > max(1, column.filled / 20)
    if role == "hospital":
        return 1 < column.different <= min(200, column.filled / 2)
    return 1 < column.different <= _MOST_CLASSES


def _no_outcome(columns: Sequence[Column]) -> str:
    for column in columns:
        if re.fullmatch(_TARGET, column.name, re.IGNORECASE) and column.use == "range":
            return (
                f"{column.name} holds numbers: write its name behind 'target', and in the place of "
                "classes target-range = [lowest, highest] of any patient; or write classes into a "
                "column of their own"
            )
    return "no column looks like an outcome: write its name behind 'target'"


def _after_the_outcome(columns: Sequence[Column], roles: dict[str, str]) -> list[str]:
    """Say which columns may be known only when the outcome is."""
    return [
        f"{one.name}: if it is known only after the outcome (a time to it, say), take it out"
        for one in columns
        if one.name not in roles and re.fullmatch(_AFTER, one.name, re.IGNORECASE)
    ]


def _different(cells: Sequence[str]) -> int:
    return len({cell.casefold() for cell in cells if cell.casefold() not in ABSENT})


def _of_patients(table: Table, roles: dict[str, str]) -> list[str]:
    """Say which patients are in several hospitals, or in none."""
    by_role = {role: name for name, role in roles.items()}
    if "patient" not in by_role:
        return []
    patient = by_role["patient"]
    empty = [place.rpartition(": ")[2] for place, row in table.rows if not row[patient]]
    said = (
        [f"{patient}: empty in {len(empty)} rows ({empty[0]}), which are left out"] if empty else []
    )
    if "hospital" not in by_role:
        return said
    home = by_role["hospital"]
    if away := [place.rpartition(": ")[2] for place, row in table.rows if not row[home]]:
        said.append(f"{home}: empty in {len(away)} rows ({away[0]}), which are left out")
    return said + in_several(patient, ((row[patient], row[home]) for _, row in table.rows))


def _text(
    path: Path,
    columns: Sequence[Column],
    roles: dict[str, str],
    cells: dict[str, list[str]],
    seen: Seen,
) -> str:
    """Return the declaration as TOML."""
    used = [one for one in columns if one.name not in roles and one.use != "unused"]
    taken = ["classes"] if "target" in roles.values() else []
    taken += [one.name for one in used]
    outcome = [one for one in columns if roles.get(one.name) == "target"]
    classes = {one.name: [c for c in cells[one.name] if c not in one.codes] for one in outcome}
    lines = [*_head(path, roles, cells | classes), *unconfirmed_lines(taken)]
    lines += _table("ranges", {one.name: _range(one) for one in used if one.range is not None})
    lines += _table("kinds", {one.name: toml_list(one.kinds) for one in used if one.kinds})
    lines += _table("censored", {one.name: '"bound"' for one in used if one.censored})
    lines += _table(
        "units",
        {
            one.name: "{" + ", ".join(f"{toml_key(unit)} = 1" for unit in one.units) + "}"
            for one in used
            if one.units
        },
    )
    gaps = [
        one.name
        for one in used
        if one.absent + one.coded >= max(1, 0.05 * (one.absent + one.filled))
    ]
    if gaps:
        lines += [
            "",
            "[missing]",
            f"columns = {toml_list(gaps)}   # absence is an input of its own",
        ]
    codes = {one.name: toml_list(one.codes) for one in [*outcome, *used] if one.codes}
    lines += _table("missing.of", codes, "# cells that look as if nothing was measured")
    form = seen.form.model_dump(exclude_defaults=True)
    lines += _table("file", {key: toml_string(value) for key, value in form.items()})
    unused = [one for one in columns if one.name not in roles and one.use == "unused"]
    if unused:
        lines += ["", "# Not used:", *(f"#   {one.name}: {one.why}" for one in unused)]
    return "\n".join(lines) + "\n"


def _head(path: Path, roles: dict[str, str], cells: dict[str, list[str]]) -> list[str]:
    """Return the lines about outcome, patient and hospital."""
    by_role = {role: name for name, role in roles.items()}
    lines = [
        f"# Drafted from {path.name}: what stands here becomes public, and is the same everywhere.",
        f"target = {json.dumps(by_role.get('target', ''), ensure_ascii=False)}"
        + ("" if "target" in by_role else "   # which column is to be predicted?"),
        *class_lines(by_role, cells),
    ]
    for role, hint in (("patient", "rows of one patient are clipped together"), ("hospital", "")):
        if by_role.get(role) == HOME:
            lines.append("# Each file is named after its hospital.")
        elif role in by_role:
            lines.append(
                f"{role} = {toml_string(by_role[role])}" + (f"   # {hint}" if hint else "")
            )
        else:
            lines.append(f'# {role} = ""')
    return lines


def class_lines(by_role: dict[str, str], cells: dict[str, list[str]]) -> list[str]:
    """Return the lines that declare the classes of the outcome."""
    if "target" not in by_role:
        return ["classes = []"]
    labels = Counter(cell for cell in cells[by_role["target"]] if cell.casefold() not in ABSENT)
    joined = Counter(one.strip() for cell in labels for one in cell.split("|") if "|" in cell)
    if joined:
        alone = sorted(cell for cell in labels if "|" not in cell and cell not in joined)
        names = ", ".join(map(toml_string, sorted(joined)))
        perhaps = f"; always alone, so perhaps none at all: {', '.join(alone)}"
        return [
            f"labels = [{names}]   # several hold at once{perhaps if alone else ''}",
            'label-separator = "|"   # for one alone: classes = ["other", it], no labels',
        ]
    folded: dict[str, str] = {}
    for label, _ in labels.most_common():
        whole = re.sub(r"^(-?\d+)[.,]0+$", r"\1", label)  # 1.0 is 1
        folded.setdefault(whole.casefold(), whole)
    if folded.keys() <= {"0", "1", "true", "false"} and len(folded) > 2:
        folded = {"0": "0", "1": "1"}  # where some write true for 1
    return [class_line(folded.values())]


def _range(column: Column) -> str:
    assert column.range is not None
    return "[" + ", ".join(_value(one) for one in column.range) + "]"


def _value(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return toml_string(str(value))


def _table(name: str, values: dict[str, str], comment: str = "") -> list[str]:
    if not values:
        return []
    head = ["", f"[{name}]" + (f"   {comment}" if comment else "")]
    return [*head, *(f"{toml_key(key)} = {value}" for key, value in values.items())]
