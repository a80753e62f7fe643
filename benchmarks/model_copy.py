"""How good a copy of a model a patient makes of the answers that one gets.

    python benchmarks/model_copy.py [--json FILE]

A patient who follows the protocol may still train a copy on the answers: nothing that is sent tells
of it. Here the patient has real pictures of the kind, asks about some of them, and fits a model of
the same architecture to what came back. The copy is held against the model, and beside it one that
was fitted to the pictures' own labels, which takes no question at all. Answers are those of the
model in plain, from which shared ones differ by less than 1e-3. The limits are those of a new
provider: 20 answers a day, 200 in all for a patient.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from needed_data import data_or_exit  # noqa: E402  (after the path is set)
from private_rows import ROWS, trained  # noqa: E402

from clients.data import load_dataset  # noqa: E402
from clients.models.catalogue import MODELS  # noqa: E402
from clients.prediction.artefact import Artefact  # noqa: E402
from clients.prediction.predictor import Predictor  # noqa: E402
from crypto.whole_file import write_shared  # noqa: E402

COMMAND = "python benchmarks/model_copy.py --json docs/measured/model_copy.json"
MODELS_COPIED = ("logistic-28", "cnn-28")
#: A day of one patient, all of one patient, all of five who share what they get.
QUESTIONS = (20, 200, 1000)
#: Pictures on which copies are held against the model, and steps of Adam for each copy.
COMPARED, STEPS, BATCH = 1000, 300, 32


def copied(artefact: Artefact, pictures: NDArray[np.float32], targets: NDArray[np.float32]) -> Any:
    """Return a fresh module of the same architecture, fitted to targets [n, classes]."""
    import torch

    torch.manual_seed(1)
    module: Any = MODELS[artefact.architecture].build(artefact.info)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    inputs, wanted = torch.from_numpy(pictures), torch.from_numpy(targets)
    for step in range(STEPS):
        chosen = np.random.default_rng(step).integers(0, len(pictures), BATCH)
        loss = torch.nn.functional.cross_entropy(module(inputs[chosen]), wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def measured(name: str, test: NDArray[np.float32], truth: Any, labels: Any) -> dict[str, Any]:
    """Return what copies of one model are worth."""
    import torch

    artefact, kept = trained(ROWS[name])
    predictor, pictures = Predictor(artefact), np.stack(kept[1:])
    answers = predictor.chances(pictures).astype(np.float32)
    model = predictor.chances(test).argmax(axis=1)
    classes = len(artefact.info.classes)
    told = {
        "probabilities": answers,
        "classes": np.eye(classes, dtype=np.float32)[answers.argmax(axis=1)],
        "labels": np.eye(classes, dtype=np.float32)[labels],
    }
    rows = []
    for count in QUESTIONS:
        found: dict[str, Any] = {"questions": count}
        for kind, targets in told.items():
            module = copied(artefact, pictures[:count], targets[:count])
            with torch.no_grad():
                guessed = module(torch.from_numpy(test)).numpy().argmax(axis=1)
            found[kind] = {
                "same": float((guessed == model).mean()),
                "right": float((guessed == truth).mean()),
            }
            print(name, count, kind, found[kind], flush=True)
        rows.append(found)
    return {"row": name, "right": float((model == truth).mean()), "copies": rows}


def main() -> int:
    """Measure copies of each model, and print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where what was found is kept")
    options = parser.parse_args()
    with data_or_exit():
        data = load_dataset("mnist", os.environ.get("ASCLEPIAS_DATA"))
    assert data.test is not None
    test = np.asarray(data.test.inputs[:COMPARED], dtype=np.float32)
    # The pictures that `trained` holds back, in its order; the first of them is timed elsewhere.
    order = np.random.default_rng(0).permutation(len(data.train))
    labels = data.train.labels[np.sort(order[-1001:])][1:]
    rows = [measured(one, test, data.test.labels[:COMPARED], labels) for one in MODELS_COPIED]
    if options.json is not None:
        said = {"command": COMMAND, "compared": COMPARED, "rows": rows}
        write_shared(options.json, (json.dumps(said, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
