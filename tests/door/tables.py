"""Sites whose records are tables of their own, ten patients each, and a run over them."""

from __future__ import annotations

import re
from pathlib import Path

from clients.contract.settings import Settings
from tests.door.sites import Sites
from tests.door.world import door_settings

A = "hospital-00"


def table(folder: Path, patients: int, *, cell: str = "0.5", label: str = "no") -> None:
    """A table of so many patients; the last one's row is given."""
    folder.mkdir(exist_ok=True)
    rows = [f"p{k},{k % 7 / 7:.3f},{k % 5 / 5:.3f},{('no', 'yes')[k % 2]}" for k in range(patients)]
    rows[-1] = f"p{patients - 1},{cell},0.25,{label}"
    (folder / "visits.csv").write_text("\n".join(["who,age,dose,ill", *rows]) + "\n")
    (folder / "visits.toml").write_text(
        'patient = "who"\ntarget = "ill"\nclasses = ["no", "yes"]\n'
        "[ranges]\nage = [0.0, 1.0]\ndose = [0.0, 1.0]\n"
    )


def with_tables(folder: Path, own: int = 10, declared: str = "", **last: str) -> Sites:
    sites = Sites(folder / "c", 3, partitions=False, data={"name": "csv:visits.csv", "dir": "."})
    for name in sites.names:
        table(sites.consortium.site(name), own if name == A else 10, **(last if name == A else {}))
        if declared:
            sites.rewrite(name, "[data]\n", f"[data]\npatients = {declared}\n")
        file = sites.consortium.site(name) / "site.toml"
        file.write_text(re.sub(r"(?m)^max-epsilon = .*\n", "", file.read_text()))
        sites.rewrite(name, "min-hospitals = 3", "min-hospitals = 2")
    table(folder / "server", 12)
    return sites


def table_settings(folder: Path, **changes: object) -> Settings:
    return door_settings(
        **{
            "data__public": False,
            "data__name": "csv:visits.csv",
            "data__dir": str(folder / "server"),
            "data__patients": 30,
            "data__largest_hospital": 10,
            **changes,
        }
    )
