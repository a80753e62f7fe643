"""Ledgers as people read them."""

from __future__ import annotations

from simulations.pages.account_book import mechanism_text, spending_rows

EVENT = {"kind": "gaussian", "sampling_rate": 0.2, "noise_multiplier": 2.0, "count": 1}


def entry(round: int, views: dict[str, float | None]) -> dict[str, object]:
    return {
        "training": "t",
        "purpose": "gradients",
        "round": round,
        "event": EVENT,
        "views": views,
    }


def test_a_mechanism_says_who_faces_less_noise_than_its_own() -> None:
    assert mechanism_text(EVENT) == "gaussian, q 0.2, sigma 2"
    assert mechanism_text(EVENT, {"server": 2.0, "hospital": 2.0}) == mechanism_text(EVENT)
    text = mechanism_text(EVENT, {"server": 2.0, "hospital": 1.5, "server+hospitals:1": None})
    assert text == "gaussian, q 0.2, sigma 2 (hospital 1.5, server+hospitals:1 none)"


def test_rounds_that_observers_see_otherwise_have_a_row_of_their_own() -> None:
    rows = spending_rows(
        {"entries": [entry(1, {"hospital": 1.5}), entry(2, {"hospital": 1.5}), entry(3, {})]}
    )
    assert [(row[2], row[3]) for row in rows] == [("1-2", "2"), ("3-3", "1")]
