"""A page on predictions: what was predicted, what sets promise, and why; one file, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulations.pages.template import HEAD, Answer, fill_page
from simulations.pages.wording import share_text

if TYPE_CHECKING:
    from clients.prediction.predictions import Predictions
    from clients.prediction.predictor import Predictor
    from simulations.prediction.predicting import Explaining

#: Records that are explained, columns and unread records that are shown.
MOST_EXPLAINED, MOST_COLUMNS, MOST_UNREAD = 12, 40, 100
#: Pixels of a shown picture's longer side.
_SHOWN = 192
_BY_HIDING = (
    "A part is hidden (put to the middle of its range): its weight is what the favoured class's "
    "log-odds lose by that."
)
_BY_GRADIENTS = (
    "Gradients of the favoured class's log-odds are added up on the way from a picture of the "
    "middle of the range to this one, pixel by pixel (integrated gradients): together they are "
    "what its log-odds differ by from those of that grey picture."
)

PREDICTIONS_PAGE = (
    HEAD
    + """
{%- if effects %}
<h2>What the model weighs</h2>
<table class="stack" id="effects">
<thead><tr><th scope="col">Input</th>
{%- for name in classes %}
<th scope="col" class="number">{{ name }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for name, values in effects %}
<tr><th scope="row">{{ name }}</th>
{%- for value in values %}
<td class="number" data-label="{{ classes[loop.index0] }}">{{ value }}</td>
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>The model is linear: from the lowest to the highest value of an input's public range, the
log-odds of a class change by so much against the mean of all classes.{{ effects_note }}</caption>
</table>
{%- endif %}

<h2>Why, record by record</h2>
<p>{{ explained_note }}</p>
<div class="figures">
{%- for one in explained %}
<figure role="group" aria-label="{{ one.name }}">
<h3>{{ one.name }}: {{ one.prediction }}</h3>
{%- if one.picture %}
<p>
{%- for source, said in ((one.picture, one.name), (one.map, one.words)) %}
<img src="{{ source }}" alt="{{ said }}" width="{{ one.width }}" height="{{ one.height }}"
  style="max-width: 100%; margin: 0 .25rem .25rem 0">
{%- endfor %}
</p>
{%- endif %}
<figcaption>{{ one.words }}</figcaption>
</figure>
{%- endfor %}
</div>

{%- if unread %}
<h2>Records without a prediction</h2>
<table class="stack" id="unread">
<thead><tr><th scope="col">{{ key }}</th><th scope="col">Why</th></tr></thead>
<tbody>
{%- for name, why in unread %}
<tr><th scope="row">{{ name }}</th><td class="wide" data-label="why">{{ why }}</td></tr>
{%- endfor %}
</tbody>
<caption>{{ unread_note }}</caption>
</table>
{%- endif %}
</main>
</body>
</html>
"""
)


def write_page(
    page: Explaining,
    predictor: Predictor,
    made: Predictions,
    doubt: str,
    evaluation: dict[str, Any],
) -> None:
    """Write the page.

    Args:
        page: where to, and how it explains.
        predictor: the model.
        made: what it predicts.
        doubt: what its sets promise.
        evaluation: how good it is; empty where that was not asked for.
    """
    from clients.prediction.explaining import effects
    from crypto.whole_file import write_shared

    info, found = predictor.artefact.info, effects(predictor)
    rows = _least_sure(made)
    key, places = next(iter(made.asked.keys.items()))
    unread = made.asked.unread
    text = fill_page(
        PREDICTIONS_PAGE,
        title=f"Predictions: {predictor.artefact.architecture} of {info.title}",
        subtitle="Made by Asclepias on this machine. It explains the model, not the patient.",
        answers=_answers(made, doubt, evaluation),
        classes=info.classes,
        effects=[
            (one.name, [f"{value:+.2f}" for value in one.by_class.values()])
            for one in found[:MOST_COLUMNS]
        ],
        effects_note=f" The strongest {MOST_COLUMNS} of {len(found)}."
        if len(found) > MOST_COLUMNS
        else "",
        explained=[_explained(predictor, made, row, gradients=page.gradients) for row in rows],
        explained_note=f"The {len(rows)} records of which the model is least sure, of "
        f"{len(made.asked.rows)}. {_BY_GRADIENTS if page.gradients else _BY_HIDING}",
        key=key,
        unread=[(places[row], made.asked.notes[row]) for row in unread[:MOST_UNREAD]],
        unread_note=f"{len(unread)} of {len(made.asked)} records.",
    )
    write_shared(page.file, text.encode())


def _answers(made: Predictions, doubt: str, evaluation: dict[str, Any]) -> list[Answer]:
    several = int((made.sets.sum(axis=1) > 1).sum())
    answers = [
        Answer(
            question="What was predicted?",
            headline=f"{len(made.asked.rows):,} of {len(made.asked):,} records.",
            lines=[
                f"Of {several:,} a person decides: their sets have more than one class."
                if several
                else "All have one class in their sets: none is left to a person."
            ],
        ),
        Answer(question="What do sets promise?", headline=f"They {doubt}."),
    ]
    if evaluation:
        answers.append(
            Answer(
                question="How good is it?",
                headline=f"Accuracy {share_text(evaluation['accuracy'])}, AUC "
                f"{share_text(evaluation['auc'])}.",
                lines=[
                    f"Sets hold the truth of {share_text(evaluation['coverage'])} of records; "
                    f"calibration error {share_text(evaluation['ece']['after'])}, Brier score "
                    f"{share_text(evaluation['brier']['after'])}."
                ],
            )
        )
    return answers


def _least_sure(made: Predictions) -> Sequence[int]:
    """Return places among the records that can be read, least sure first."""
    order = np.argsort(made.chances.max(axis=1), kind="stable")
    return [int(one) for one in order[:MOST_EXPLAINED]]


def _explained(
    predictor: Predictor, made: Predictions, row: int, *, gradients: bool
) -> dict[str, Any]:
    """Return what is shown of one record."""
    from clients.data.records import SPATIAL_KINDS
    from clients.prediction.explaining import column_weights, gradient_weights, patch_weights

    place = int(made.asked.rows[row])
    key, places = next(iter(made.asked.keys.items()))
    record = np.asarray(made.asked.inputs[row : row + 1])[0]
    favoured = made.classes[int(made.chances[row].argmax())]
    shown: dict[str, Any] = {
        "name": f"{key} {places[place]}",
        "prediction": f"{favoured} ({made.chances[row].max():.0%})",
        "picture": "",
    }
    info = predictor.artefact.info
    if info.kind in SPATIAL_KINDS:
        weigh = gradient_weights if gradients else patch_weights
        return shown | _picture(record, weigh(predictor, record), favoured, gradients=gradients)
    if info.kind != "table":
        return shown | {"words": "Series are not explained."}
    [weights] = column_weights(predictor, record[None])
    said = "; ".join(f"{name} {loss:+.2f}" for name, loss in weights[:6])
    return shown | {"words": f"What {favoured} loses, in log-odds, without: {said}."}


def _picture(
    record: NDArray[np.float32], weights: NDArray[np.float64], favoured: str, *, gradients: bool
) -> dict[str, Any]:
    """Return a picture (of a volume its middle slice), its map, and the map in words."""
    from PIL import Image

    if record.ndim == 4:
        record, weights = record[:, record.shape[1] // 2], weights[weights.shape[0] // 2]
    pixels = np.rint(255 * np.clip(record, 0, 1)).astype(np.uint8)
    channels = np.repeat(pixels, 3, axis=0)[:3] if len(pixels) != 3 else pixels
    image = Image.fromarray(np.moveaxis(channels, 0, -1))
    scale = _SHOWN / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    strength = np.abs(weights) / max(float(np.abs(weights).max()), 1e-12)
    # Vermilion for what speaks for the class, blue for what speaks against it.
    colours = np.where(weights[..., None] >= 0, (213, 94, 0), (0, 114, 178)).astype(np.uint8)
    alpha = np.rint(200 * strength).astype(np.uint8)
    heat = Image.fromarray(np.dstack([colours, alpha]), "RGBA").resize(
        size, Image.Resampling.NEAREST
    )
    mapped = Image.alpha_composite(image.convert("RGBA"), heat).convert("RGB")
    coarse = _ninths(weights) if gradients else weights
    row, column = np.unravel_index(int(np.abs(coarse).argmax()), coarse.shape)
    where, most = _where(int(row), int(column), coarse.shape), coarse[row, column]
    said = (
        f"What counts most is {where}: it adds {most:+.2f} to the log-odds of {favoured}."
        if gradients
        else f"What counts most is {where}: without it {favoured} loses {most:+.2f} in log-odds."
    )
    return {
        "picture": _inline(image),
        "map": _inline(mapped),
        "width": size[0],
        "height": size[1],
        "words": f"{said} Orange speaks for it, blue against.",
    }


def _ninths(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each ninth of a picture adds, [3, 3]: a single pixel is no place in words."""
    down, across = (np.array_split(np.arange(side), min(3, side)) for side in weights.shape)
    return np.array([[weights[np.ix_(rows, columns)].sum() for columns in across] for rows in down])


def _where(row: int, column: int, shape: tuple[int, ...]) -> str:
    """Return a place in words."""
    down = ("the top", "the middle", "the bottom")[3 * row // shape[0]]
    across = ("left", "centre", "right")[3 * column // shape[1]]
    return f"{down} {across}"


def _inline(image: Any) -> str:
    file = BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
