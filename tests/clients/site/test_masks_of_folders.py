"""Real hospitals train on folders of pictures and masks, of which nothing is held whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clients.contract.settings import Settings
from clients.data import masks
from clients.data.records import Ints
from clients.learning.batch import CHUNK_RECORDS
from deployment.consortium import Consortium
from strategies.errors import TrainingStopped
from tests.deployment.real_sites import SiteGrid, benchmark_consortium, rewrite, train, vouched
from tests.in_process import small_settings
from tests.mask_data import write_pictures

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
PATIENTS = 34


def hospitals(folder: Path, **changes: object) -> tuple[Settings, Consortium]:
    """Three hospitals with a folder of their own each, which no run calls public, and a run."""
    source = {"name": "image-folder:scans", "dir": "."}
    consortium = benchmark_consortium(folder / "c", 3, partitions=False, data=source)
    for name in consortium.hospitals:
        write_pictures(consortium.site(name) / "scans", PATIENTS, 16)
        file = consortium.site(name) / "site.toml"
        file.write_text(re.sub(r"(?m)^max-epsilon = .*\n", "", file.read_text()))
    write_pictures(folder / "server" / "scans", 12, 16)
    given: dict[str, object] = {
        "partition__hospitals": 3,
        "privacy__noise_multiplier": 0.8,
        "data__patients": 3 * PATIENTS,
        "data__largest_hospital": PATIENTS,
        "data__image_size": 16,
        "data__public": False,
        "data__name": "image-folder:scans",
        "data__dir": str(folder / "server"),
        "data__holdout": 0.5,
        "model__name": "unet",
        "training__sampling_rate": 1.0,
        "training__rounds": 4,
        **changes,
    }
    return small_settings(folder / "run", **given), vouched(consortium)


def test_hospitals_learn_masks_of_folders_and_read_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, consortium = hospitals(tmp_path)
    first = consortium.site(consortium.hospitals[0])
    (first / "scans/masks/p001/a.png").write_bytes(b"no picture")
    at_once, read = list[int](), masks.MaskStore.read

    def counted(store: masks.MaskStore, rows: Ints) -> np.ndarray:
        at_once.append(len(rows))
        return read(store, rows)

    monkeypatch.setattr(masks.MaskStore, "read", counted)
    train(settings, SiteGrid(settings, consortium))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metrics"]["dice"] > 0.45
    assert max(at_once) <= CHUNK_RECORDS < PATIENTS
    said = (first / "private/readings.log").read_text()
    assert "p001/a.png: " in said and "the record is out" in said
    assert "no record could be read" in (first / "private/hospital.log").read_text()


@pytest.mark.parametrize("volumes", [False, True])
def test_larger_pictures_than_a_hospital_allows_are_refused_before_any_is_read(
    tmp_path: Path, volumes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings, consortium = hospitals(tmp_path, data__image_size=170 if volumes else 18)
    for name in consortium.hospitals:
        scans = consortium.site(name) / "scans"
        if volumes:
            said = (scans / "dataset.toml").read_text() + "volumes = true\n"
            (scans / "dataset.toml").write_text(said)
        else:
            rewrite(consortium, name, "max-values = 4194304", "max-values = 300")
        for folder in ("images", "masks"):
            # Whoever looked for a picture would say that there is none.
            (scans / folder).rename(scans / f"no-{folder}")
    with pytest.raises(TrainingStopped, match=r"0 of 3 hospitals joined.*site-refused"):
        train(settings, SiteGrid(settings, consortium))
    assert "[limits] max-values of site.toml allows" in caplog.text
    assert ("170 makes records of 4913000 values" if volumes else "of 324 values") in caplog.text
