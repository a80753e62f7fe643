"""Attacks on the memory that an answer takes: the server chooses copies, sizes and chances."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from clients.site.data_stamp import write_stamp
from tests.door.sites import Answer, Sites
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.world import Play, agreement_of, door_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"
SIDE = 64
#: Bytes that the hospital's process may take beside what it has: as a small machine would.
ROOM = 700 * 2**20


def pictures(folder: Path, patients: int) -> None:
    folder.mkdir(exist_ok=True)
    arrays = {}
    for part, number in (("train", patients), ("test", 6)):
        arrays[f"{part}_images"] = np.full((number, SIDE, SIDE), 9, dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(number) % 2).astype(np.uint8)
    np.savez(folder / "made.npz", **arrays)
    (folder / "made.toml").write_text('classes = ["no", "yes"]\n')


def begun(folder: Path, patients: int, **changes: object) -> Play:
    """A training of pictures at three sites, of which one has so many patients."""
    folder.mkdir()
    sites = Sites(folder / "c", 3, partitions=False, data={"name": "npz:made", "dir": "."})
    for name in sites.names:
        site = sites.consortium.site(name)
        pictures(site, patients if name == A else 10)
        file = site / "site.toml"
        file.write_text(re.sub(r"(?m)^max-epsilon = .*\n", "", file.read_text()))
        sites.rewrite(name, "min-hospitals = 3", "min-hospitals = 2")
        write_stamp(sites.folder(name), data="npz:made", bound=2000, day=date(2026, 1, 1))
    pictures(folder / "server", 20)
    settings = door_settings(
        data__public=False,
        data__name="npz:made",
        data__dir=str(folder / "server"),
        data__patients=3000,
        data__largest_hospital=2000,
        **{**changes, "training__sampling_rate": 1.0},
    )
    play = Play.of(sites, settings, agreement_of(settings))
    play.begin()
    return play


def code_with_little_memory(asked: Callable[[], Answer]) -> str:
    """What the hospital answers in a process that may take no more than ROOM."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        os.write(write, asked().code.encode() or b"answered")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        code = pipe.read().decode()
    os.waitpid(child, 0)
    return code


def test_answers_do_not_depend_on_how_many_were_sampled(tmp_path: Path) -> None:
    """64 copies of each of 500 pictures take 520 MB where they are made at once."""

    def asked(patients: int) -> str:
        play = begun(tmp_path / str(patients), patients, training__augmentations=64)
        return code_with_little_memory(lambda: play.ask(A, Kind.TRAIN, play.request(1)))

    assert [asked(patients) for patients in (20, 500)] == ["answered", "answered"]


def test_answers_do_not_depend_on_how_many_fill_a_batch(tmp_path: Path) -> None:
    """Gradients of 500 patients, in float64, take 525 MB where they are held at once."""

    def asked(patients: int) -> str:
        split = SplitPlay(begun(tmp_path / str(patients), patients, **LAYERS))
        assert split.forward(A, 1)
        assert split.head(A, 1)
        return code_with_little_memory(lambda: split.backward(A, 1))

    assert [asked(patients) for patients in (20, 500)] == ["answered", "answered"]
