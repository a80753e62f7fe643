"""How numbers are written for people, the same in terminal, figures and report."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Whom an epsilon covers.
PATIENT, RECORD = "patient", "record"
PER_RECORD = "per record, not per patient: the data name no patients"
ABSENT = "-"


def bytes_text(count: float | None) -> str:
    """Write a size in decimal units: 1234567 is ``1.23 MB``."""
    if count is None:
        return ABSENT
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def seconds_text(seconds: float | None) -> str:
    """Write a duration: ``0.48 s``, ``12.4 s``, ``3 min 7 s``, ``1 h 3 min``."""
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def share_text(value: float | None) -> str:
    """Write an accuracy or an AUC: three decimals; absent where there is no number."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.3f}"


def epsilon_text(value: float | None) -> str:
    """Write an epsilon: three significant digits; ``none`` where nothing is guaranteed."""
    if value is None or math.isnan(value):
        return "none"
    if math.isinf(value):
        return "infinite"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def versions_text(versions: Mapping[str, str], platform: str = "") -> str:
    """Write what a page was made with; empty where nothing is known."""
    parts = [*(f"{name} {version}" for name, version in versions.items()), platform]
    text = ", ".join(part for part in parts if part)
    return f"Made with {text}." if text else ""
