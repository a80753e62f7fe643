"""Fixed features of a hospital's pictures are there before its first round is paid for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.models import scattering
from tests.door.sites import Sites
from tests.door.tables import A
from tests.door.world import Play, agreement_of, door_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def pictures(folder: Path, count: int) -> None:
    """A folder of grey pictures in two classes; one of them is none."""
    generator = np.random.default_rng(count)
    for kind in ("ill", "well"):
        (folder / "scans" / kind).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "scans" / kind / f"{number}.png")
    (folder / "scans" / "ill" / "cut.png").write_bytes(b"\x89PNG")
    (folder / "scans" / "dataset.toml").write_text(
        'classes = ["ill", "well"]\n[pictures]\nlayout = "class"\nchannels = 1\n'
    )


def began(folder: Path, **changes: object) -> Play:
    sites = Sites(
        folder / "c", 3, partitions=False, data={"name": "image-folder:scans", "dir": "."}
    )
    for name in sites.names:
        pictures(sites.consortium.site(name), 4)
        file = sites.consortium.site(name) / "site.toml"
        file.write_text(re.sub(r"(?m)^max-epsilon = .*\n", "", file.read_text()))
        sites.rewrite(name, "min-hospitals = 3", "min-hospitals = 2")
    pictures(folder / "server", 4)
    settings = door_settings(
        **{
            "data__public": False,
            "data__name": "image-folder:scans",
            "data__dir": str(folder / "server"),
            "data__image_size": 32,
            "data__patients": 24,
            "data__largest_hospital": 10,
            "model__name": "scattering",
            **changes,
        }
    )
    return Play.of(sites, settings, agreement_of(settings))


def test_features_are_computed_before_anything_is_paid(tmp_path: Path, monkeypatch) -> None:
    play = began(tmp_path)
    play.begin()
    for name in play.sites.names:
        [kept] = play.sites.folder(name).glob("*.npy")
        assert len(np.load(kept)) == 9  # the leader's too, and the cut one's are NaN
        assert "keyed" in play.sites.kinds(name) and "spend" not in play.sites.kinds(name)

    def never(*_: object) -> None:
        raise AssertionError("features were computed in a round")

    monkeypatch.setattr(scattering.Scattering, "__call__", never)
    assert play.train(1)[A].sealed
    assert "spend" in play.sites.kinds(A)
