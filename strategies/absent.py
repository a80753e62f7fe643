"""What to say where too few hospitals came to a training."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clients.contract.faults import MEANINGS, read_code
from strategies.conversation import UNREACHABLE


def listed(faults: Mapping[str, str]) -> str:
    """Return what each node or hospital gave instead of what it was asked for, in one line."""
    return "; ".join(f"{who}: {code}" for who, code in sorted(faults.items()))


def too_few(faults: Mapping[str, str], count: int, wanted: int, missing: Collection[str]) -> str:
    """Return who is missing, why, and what can be done about it.

    Args:
        faults: node or hospital -> the code that it gave instead of an offer.
        count: hospitals that joined.
        wanted: hospitals that the training is of.
        missing: invited by name, and not there.
    """
    text = f"{count} of {wanted} hospitals joined"
    if missing:
        text += f", {', '.join(sorted(missing))} did not"
    if faults:
        text += f" ({listed(faults)}; why, is in each one's hospital.log)"
    codes = {code: read_code(code) for code in sorted(set(faults.values()))}
    said = [f"{code}: {MEANINGS[known]}" for code, known in codes.items() if known]
    mendable = count + len(faults) >= wanted and UNREACHABLE not in faults.values()
    what = "Mend that there" if mendable else "Start the missing nodes"
    return ". ".join([text, *(["; ".join(said)] if said else []), what]) + (
        ", or train with fewer hospitals."
    )
