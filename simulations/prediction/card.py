"""The card of a model: what it is for, what it was trained on, who could learn what, how good.

A card is JSON, and the same as Markdown with the front matter that model hubs read.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from simulations.pages.merit import delta_text, holdout_text, nothing_text

if TYPE_CHECKING:
    from clients.prediction.artefact import Artefact
    from strategies.run.reading import RunResult

INTENDED = (
    "Research into private training, and evaluation at hospitals on records of the form below. It "
    "is no medical device: nobody has cleared it for the care of patients, and a person decides."
)
LIMITS = (
    "Prediction sets promise nothing of patients unlike those of the public holdout (another "
    "scanner, another mix of diseases) unless a hospital calibrates on its own.",
    "Each epsilon is against the observer that it stands beside; others could learn more.",
    "Figures are of the public holdout; where data are not public, none of single hospitals exist.",
)


def card_of(artefact: Artefact, run: RunResult | None, intended: str) -> dict[str, Any]:
    """Return a model's card; JSON-ready.

    Args:
        artefact: the model.
        run: the run that it comes from; None for an exported file, whose own card is kept.
        intended: what it is meant for; "" for `INTENDED`.
    """
    kept = dict(artefact.about.get("card") or {}) if run is None else _of_run(run)
    info = artefact.info
    return {
        **kept,
        "model": {
            "digest": artefact.digest,
            "architecture": artefact.architecture,
            "members": list(artefact.members),
            "parameters": sum(t.numel() for t in next(iter(artefact.members.values())).values()),
            "temperature": artefact.doubt.temperature,
            "calibrated_on": len(artefact.doubt.scores),
        },
        "data": {
            "name": info.name,
            "title": info.title,
            "kind": info.kind,
            "task": info.task,
            "shape": list(info.shape),
            "input_range": list(info.input_range),
            "classes": list(info.classes),
            "declared": dict(info.declared),
            "licence": info.licence,
            "source": info.source,
        },
        "intended_use": intended or kept.get("intended_use") or INTENDED,
        "limits": list(LIMITS),
        "written": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "asclepias": importlib.metadata.version("asclepias"),
    }


#: Figures of doubt that a card does not list, or lists in another place.
_ELSEWHERE = ("rejection", "by_subgroup")


def _of_run(run: RunResult) -> dict[str, Any]:
    """Return what only a run knows of its model."""
    summary, privacy = run.summary, run.privacy
    return {
        "training": {
            key: summary.get(key)
            for key in ("training", "scenario", "regime", "exchange", "scheme", "hospitals")
        }
        | {"rounds": summary.get("rounds"), "seeded": summary.get("seeded")},
        "privacy": {
            "neighbouring": privacy.get("neighbouring"),
            "delta": summary.get("delta"),
            "patients": summary.get("patients"),
            "unit": summary.get("unit"),
            "covered_by_no_epsilon": holdout_text(summary) or None,
            "observers": [
                {
                    "observer": one.get("observer"),
                    "epsilon": one.get("epsilon"),
                    "guaranteed": one.get("guaranteed", True),
                    "attack_shows_at_least": (one.get("audit") or {}).get("epsilon"),
                }
                for one in privacy.get("observers") or []
            ],
            "audit": summary.get("audit"),
        },
        "figures": {
            "one_guess": (summary.get("merit") or {}).get("one_guess"),
            "holdout": summary.get("metrics"),
            "by_class": _recalls(run.evaluation),
            "by_subgroup": run.doubt.get("predictor", {}).get("by_subgroup"),
            "accuracy_by_hospital": summary.get("hospital_accuracy"),
            "doubt": {
                name: {key: value for key, value in found.items() if key not in _ELSEWHERE}
                for name, found in run.doubt.items()
            },
        },
    }


def _recalls(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of each class's holdout records that the model gets right."""
    rows = zip(evaluation.get("classes") or [], evaluation.get("confusion") or [], strict=False)
    return {
        name: counts[number] / sum(counts)
        for number, (name, counts) in enumerate(rows)
        if sum(counts)
    }


def markdown(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown, with front matter that model hubs read."""
    data, model = card["data"], card["model"]
    front = {
        "library_name": "asclepias",
        "license": "other",
        "tags": ["differential-privacy", "federated-learning", "medical", data["kind"]],
        "model_digest": model["digest"],
    }
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---",
        f"# {model['architecture']} for {_text(data['title'])}",
        f"## Intended use\n\n{_text(card['intended_use'])}",
        "## Data\n\n" + _listed(data, ("name", "kind", "task", "shape", "input_range", "classes"))
        + _listed(data, ("licence", "source")) + _declared(data["declared"]),
        "## Training\n\n" + _listed(card.get("training") or {"training": "not known"}),
        "## Who could learn what about a patient\n\n" + _privacy(card.get("privacy")),
        "## How good it is\n\n" + _figures(card.get("figures")),
        "## Limits\n\n" + "".join(f"- {line}\n" for line in card["limits"]),
        "## The file\n\n" + _listed(model),
    ]  # fmt: skip
    if check := card.get("check"):
        said = f"probabilities of {check['records']} records differ by at most"
        parts.append(
            f"Written as {check['format']}, read again before it was kept: {said} "
            f"{check['largest_difference']:.2g} from those of the trained model.\n"
        )
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _text(value: object) -> str:
    """Write a value so that nothing in it is taken for Markdown or HTML."""
    from clients.contract.printable import printable

    said = value if isinstance(value, str) else json.dumps(value)
    for sign in "\\`*_[]<>|#":
        said = said.replace(sign, f"\\{sign}")
    return printable(said)


def _listed(values: Mapping[str, Any], keys: tuple[str, ...] = ()) -> str:
    named = keys or tuple(values)
    return "".join(
        f"- {key.replace('_', ' ')}: {_text(values[key])}\n"
        for key in named
        if values.get(key) not in (None, "", [])
    )


def _declared(declared: Mapping[str, str]) -> str:
    if not declared:
        return ""
    return "- declared of the data:\n" + "".join(
        f"  - {_text(key)}: {_text(value)}\n" for key, value in declared.items()
    )


def _privacy(privacy: Mapping[str, Any] | None) -> str:
    if not privacy or not privacy.get("observers"):
        return "Not stated in this file.\n"
    rows = ["| observer | epsilon (RDP) | epsilon (PRV) | guaranteed | attack shows at least |"]
    rows.append("| --- | ---: | ---: | --- | ---: |")
    for one in privacy["observers"]:
        epsilon = one["epsilon"] or {}
        cells = [_number(epsilon.get(name)) for name in ("rdp", "prv")]
        held = "yes" if one["guaranteed"] and one["epsilon"] else "no"
        shown = _number(one["attack_shows_at_least"], absent="-")
        rows.append(f"| {_text(one['observer'])} | {' | '.join(cells)} | {held} | {shown} |")
    audit = privacy.get("audit")
    said = f"delta {_text(delta_text(privacy))}. " if privacy.get("delta") else ""
    if left_out := privacy.get("covered_by_no_epsilon"):
        said += f"Covered by no epsilon: {_text(left_out)}. "
    said += f"Neighbours: {privacy['neighbouring']}. " if privacy.get("neighbouring") else ""
    said += "Audited: an attack found nothing against it." if audit else "Not audited."
    return "\n".join(rows) + f"\n\n{said}\n"


def _figures(figures: Mapping[str, Any] | None) -> str:
    if not figures:
        return "Not stated in this file.\n"
    parts = ["On the public holdout:\n\n" + _numbers(figures.get("holdout") or {})]
    if guess := figures.get("one_guess"):
        parts.insert(0, f"**It has learnt {nothing_text(_text(guess))}.**\n")
    if found := figures.get("by_class"):
        parts.append("Share that is right, by class:\n\n" + _numbers(found))
    if found := figures.get("by_subgroup"):
        lines = ["| part of the holdout | records | right |", "| --- | ---: | ---: |"]
        lines += [
            f"| {_text(name)} | {one['records']} | {_number(one['accuracy'])} |"
            for name, one in found.items()
        ]
        parts.append("Share that is right, by subgroup:\n\n" + "\n".join(lines) + "\n")
    if found := figures.get("accuracy_by_hospital"):
        parts.append("Accuracy, by hospital (public data):\n\n" + _numbers(found))
    else:
        parts.append("By hospital: none, since the data are not declared public.\n")
    for name, found in (figures.get("doubt") or {}).items():
        rows = {
            "calibration error": found["ece"]["after"],
            "calibration error before": found["ece"]["before"],
            "Brier score": found["brier"]["after"],
            "Brier score before": found["brier"]["before"],
            "classes in a set": found["mean_set_size"],
        }
        parts.append(f"Doubt of {_text(name)}:\n\n" + _numbers(rows))
    return "\n".join(parts)


def _numbers(values: Mapping[str, Any]) -> str:
    return "".join(f"- {_text(key)}: {_number(value)}\n" for key, value in values.items())


def _number(value: float | None, absent: str = "none") -> str:
    return absent if value is None else f"{value:.3g}"
