"""Made-up patients for each task: a table, its declaration, and what is really behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_SEX = ("f", "m")
#: What is declared beside each table, without what all of them declare.
DECLARED = {
    "multi-label": 'labels = ["effusion", "mass", "nodule"]',
    "regression": 'target = "score"\ntarget-range = [0, 100]',
    "ordinal": 'target = "grade"\nclasses = ["none", "mild", "severe", "worst"]\nordinal = true',
    "survival": 'target = "years"\nevent = "died"\nhorizons = [1, 2, 5]',
}
_COMMON = """
patient = "patient"
[ranges]
age = [20, 90]
marker = [-4, 4]
[kinds]
sex = ["f", "m"]
"""


def write_table(folder: Path, task: str, patients: int = 240, *, seed: int = 1) -> Path:
    """Write a table of patients with two rows each, and its declaration; return the table."""
    draw = np.random.default_rng(seed)
    lines = []
    for patient in range(patients):
        age, marker, sex = draw.uniform(20, 90), draw.normal(), _SEX[draw.integers(2)]
        risk = 1.6 * marker + 0.03 * (age - 55)
        for _ in range(2):
            row = [f"p{patient:04d}", f"{age:.1f}", f"{marker + 0.05 * draw.normal():.3f}", sex]
            lines.append(",".join([*row, *_target(task, draw, risk, sex)]))
    names = {
        "multi-label": ["effusion", "mass", "nodule"],
        "regression": ["score"],
        "ordinal": ["grade"],
        "survival": ["years", "died"],
    }[task]
    file = folder / f"{task}.csv"
    header = ",".join(["patient", "age", "marker", "sex", *names])
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    said = DECLARED[task] + _COMMON
    file.with_suffix(".toml").write_text(said, encoding="utf-8")
    return file


def _target(task: str, draw: np.random.Generator, risk: float, sex: str) -> list[str]:
    if task == "multi-label":
        held = [risk + draw.logistic() > 0, -risk + draw.logistic() > 0, sex == "m"]
        cells = [str(int(one)) for one in held]
        if draw.random() < 0.1:
            cells[2] = "-1"
        return cells
    if task == "regression":
        return [f"{50 + 12 * risk + 4 * draw.normal():.2f}"]
    if task == "ordinal":
        grade = int(np.searchsorted([-1.0, 0.5, 2.0], risk + 0.7 * draw.logistic()))
        return [("none", "mild", "severe", "worst")[grade]]
    years, left = draw.exponential(3 * np.exp(-risk)), draw.uniform(0.5, 8)
    return [f"{min(years, left):.3f}", str(int(years <= left))]
