"""What a run leaves behind to predict with: released models, and nothing that was not released."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clients.data.records import readable
from clients.prediction.artefact import read_artefact
from clients.prediction.doubt import measure_doubt
from clients.prediction.predictor import Predictor, spread
from strategies.predictors import ITERATES, MODEL, PREDICTOR
from strategies.run.journal import MOST_RELEASES, Journal
from strategies.run.reading import read_run
from tests.exchange_runs import model_of, run_app
from tests.in_process import COHORTS, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    settings = small_settings(
        tmp_path_factory.mktemp("run"), training__rounds=6, training__release_every=2
    )
    run_app(settings)
    return settings


def test_the_file_predicts_as_the_released_model_did(run) -> None:
    artefact = read_artefact(Path(run.run.out) / PREDICTOR)
    assert list(artefact.members) == [MODEL]
    released = model_of(run)
    assert set(artefact.members[MODEL]) == set(released)
    for name, tensor in artefact.members[MODEL].items():
        assert torch.equal(tensor, torch.from_numpy(released[name]))
    holdout = readable(COHORTS.of(run).holdout)
    guesses = Predictor(artefact).chances(holdout.inputs).argmax(axis=1)
    accuracy = read_run(Path(run.run.out)).summary["accuracy"]
    assert float((guesses == holdout.labels).mean()) == accuracy


def test_members_are_exactly_the_released_iterates(run) -> None:
    found = read_run(Path(run.run.out))
    released = [event["round"] for event in found.of_kind("release")]
    assert released == [2, 4, 6]  # rounds 1, 3 and 5 were never released
    artefact = read_artefact(Path(run.run.out) / ITERATES)
    assert list(artefact.members) == [f"round-{number:06d}" for number in released]
    last = artefact.members[f"round-{released[-1]:06d}"]
    assert all(torch.equal(t, torch.from_numpy(model_of(run)[n])) for n, t in last.items())


def test_iterates_are_averaged_and_told_apart(run) -> None:
    predictor = Predictor(read_artefact(Path(run.run.out) / ITERATES))
    inputs = COHORTS.of(run).holdout.inputs
    each = predictor.each(inputs)
    mean = np.mean([np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in each], axis=0)
    together = np.exp(predictor.together(each))
    assert np.allclose(together, mean, atol=1e-6)
    assert (spread(each) > 0).all() and not spread(each[:1]).any()


def test_figures_of_doubt_are_left_beside_it(run) -> None:
    doubt = read_run(Path(run.run.out)).doubt
    assert set(doubt) == {"predictor", "iterates"}
    for figures in doubt.values():
        assert figures["patients"]["sets"] > figures["patients"]["temperature"] > 0
        assert {"before", "after"} == set(figures["ece"]) == set(figures["brier"])
        assert figures["rejection"][0]["rejected"] == 0.0
    scores = read_artefact(Path(run.run.out) / PREDICTOR).doubt.scores
    assert len(scores) == doubt["predictor"]["patients"]["sets"]


def test_without_noise_there_are_no_iterates(tmp_path: Path) -> None:
    settings = small_settings(
        tmp_path, privacy__regime="F", privacy__noise_multiplier=0.0, data__public=False
    )
    run_app(settings)
    assert (tmp_path / PREDICTOR).is_file()
    assert not (tmp_path / ITERATES).exists()


def test_an_ensemble_predicts_together(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, exchange__name="ensemble", privacy__regime="FPDP")
    run_app(settings)
    artefact = read_artefact(tmp_path / PREDICTOR)
    assert list(artefact.members) == [f"hospital-{k:02d}" for k in range(4)]
    holdout = COHORTS.of(settings).holdout
    guesses = Predictor(artefact).chances(holdout.inputs).argmax(axis=1)
    accuracy = read_run(tmp_path).summary["accuracy"]
    assert float((guesses == holdout.labels).mean()) == accuracy


def test_only_the_last_releases_are_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(1, 30):
        journal.keep_release(number, bytes([number]))
    kept = journal.read_releases()
    assert list(kept) == list(range(30 - MOST_RELEASES, 30))
    assert kept[29] == bytes([29])


def test_behind_input_noise_doubt_is_measured_on_clean_records(tmp_path: Path) -> None:
    """New patients have no noise; the holdout that a training judges itself on has."""
    settings = small_settings(tmp_path, privacy__input_laplace=0.4, training__rounds=2)
    run_app(settings)
    artefact = read_artefact(tmp_path / PREDICTOR)
    holdout = readable(COHORTS.of(settings).holdout)
    logits = Predictor(artefact).logits(holdout.inputs)
    doubt, _ = measure_doubt(logits, holdout.labels, holdout.patients, seed=settings.public_seed)
    assert np.array_equal(doubt.scores, artefact.doubt.scores)


def test_the_file_does_not_say_where_the_data_lie(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "ward-of-the-third-floor"
    folder.mkdir()
    labels = np.repeat([0, 1], 60)
    images = (random.integers(0, 99, (120, 16, 16)) + 99 * labels[:, None, None]).astype(np.uint8)
    np.savez(folder / "scans.npz", train_images=images, train_labels=labels)
    settings = small_settings(
        tmp_path / "run",
        data__name=f"npz:{folder}/scans.npz",
        model__name="cnn",
        training__rounds=1,
    )
    run_app(settings)
    content = (tmp_path / "run" / PREDICTOR).read_bytes()
    assert b"npz:scans.npz" in content
    assert b"third-floor" not in content
