"""A hospital answers the same, whatever one of its patients' records holds.

Each twin world differs from the first by one patient's records at one hospital. What all hospitals
say in a whole training must agree: who answers to what, with which code, at which size.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message

from accounting.chain import read_chain
from clients.site.data_stamp import write_stamp
from strategies.errors import TrainingStopped
from tests.deployment.real_sites import SiteGrid, benchmark_consortium, train, vouched
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: What the hospital that has twins is called, and how many patients the run has room for.
TWIN = "hospital-01"
LARGEST = 10

Change = Callable[[Path], None]


def _table(folder: Path, *, patients: int = LARGEST) -> None:
    rows = ["patient,age,sex,outcome"]
    rows += [
        f"p{k // 2},{20 + 7 * k % 60},{'fm'[k % 2]},{'ab'[k % 2]}" for k in range(2 * patients)
    ]
    (folder / "visits.csv").write_text("\n".join(rows) + "\n")
    (folder / "visits.toml").write_text(
        'target = "outcome"\nclasses = ["a", "b"]\npatient = "patient"\n'
        '[ranges]\nage = [0, 110]\n[kinds]\nsex = ["f", "m"]\n'
    )


def _pictures(folder: Path) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    (folder / "scans").mkdir()
    owners = ["file,patient"]
    for label in ("a", "b"):
        (folder / "scans" / label).mkdir()
        for number in range(10):
            pixels = generator.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "scans" / label / f"{number}.png")
            owners.append(f"{label}/{number}.png,{label}{number // 2}")
    (folder / "scans/patients.csv").write_text("\n".join(owners) + "\n")
    (folder / "scans/dataset.toml").write_text('classes = ["a", "b"]\n')


def _replace(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / "visits.csv").read_text()
        assert old in text
        (folder / "visits.csv").write_text(text.replace(old, new, 1))

    return change


def _patients(count: int) -> Change:
    return lambda folder: _table(folder, patients=count)


def _world(
    folder: Path,
    change: Change | None,
    *,
    kind: str = "csv",
    stamp: int = LARGEST,
    **changes: object,
) -> list:
    """Train at four real sites; return what each reply of each hospital shows."""
    name = "csv:visits.csv" if kind == "csv" else "image-folder:scans"
    consortium = benchmark_consortium(
        folder / "consortium", 4, partitions=False, data={"name": name, "dir": "."}
    )
    make = _table if kind == "csv" else _pictures
    (folder / "server").mkdir()
    for place in (*(consortium.site(one) for one in consortium.hospitals), folder / "server"):
        make(place)
    if change is not None:
        change(consortium.site(TWIN))
    settings = small_settings(
        folder / "run",
        **{
            "privacy__noise_multiplier": 12.0,
            "training__rounds": 1,
            "data__patients": 40,
            "data__largest_hospital": LARGEST,
            "data__public": False,
            "data__image_size": 8,
            "data__name": name,
            "data__dir": str(folder / "server"),
            **changes,
        },
    )
    for site in consortium.hospitals:
        bound = stamp if site == TWIN else LARGEST
        private = consortium.site(site) / "private"
        write_stamp(private, data=name, bound=bound, day=date(2026, 1, 1))
    grid = SiteGrid(settings, vouched(consortium))
    train(settings, grid)
    return sorted(_seen(grid, reply) for reply in grid.replies)


def _seen(grid: SiteGrid, reply: Message) -> tuple:
    """What the server can tell of a reply without understanding a bit of it."""
    site = grid.sites[reply.metadata.src_node_id].parent.name
    kind = reply.metadata.message_type
    if reply.has_error():
        return site, kind, reply.error.code, reply.error.reason, ()
    sizes = []
    for name, record in reply.content.items():
        if isinstance(record, ArrayRecord):
            sizes += [
                (name, key, len(array.data), str(array.shape)) for key, array in record.items()
            ]
        elif isinstance(record, ConfigRecord):
            sizes += [(name, key, _size(value), "") for key, value in record.items()]
    return site, kind, 0, "", tuple(sorted(sizes))


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes | list) else 0


TABLES = {
    "a cell that is no number": _replace("p3,", "p3,x"),
    "a category that is not declared": _replace(",m,", ",unknown,"),
    "a value outside its range": _replace("p3,", "p3,9"),
    "a third class": _replace(",b\n", ",c\n"),
    "no class": _replace(",a\n", ",\n"),
    "no patient": _replace("p5,", ","),
    "a cell too many": _replace("p5,", "p5,,"),
    "a quotation mark": _replace("p5,", 'p5,"'),
    "a byte of another encoding": lambda folder: (folder / "visits.csv").write_bytes(
        (folder / "visits.csv").read_bytes().replace(b",m,", b",\xe9,", 1)
    ),
    "one patient more than the run has room for": _patients(LARGEST + 1),
    "one patient fewer": _patients(LARGEST - 1),
    "no patient at all": _patients(0),
}


@pytest.fixture(scope="module")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> list:
    return _world(tmp_path_factory.mktemp("first"), None)


#: One of each way in which a record is unlike others: a value, a word, a form, a count.
A_FEW = ("a cell that is no number", "a third class", "a cell too many", "one patient fewer")


@pytest.mark.parametrize(
    "difference",
    [one if one in A_FEW else pytest.param(one, marks=pytest.mark.exhaustive) for one in TABLES],
)
def test_a_table_answers_as_its_twin(tmp_path: Path, first_world: list, difference: str) -> None:
    assert _world(tmp_path, TABLES[difference]) == first_world


def test_a_source_that_is_missing_as_a_whole_is_seen(tmp_path: Path, first_world: list) -> None:
    # Negative control: what is not one record's doing shows, by its code, before anything is spent.
    def lose(folder: Path) -> None:
        (folder / "visits.csv").unlink()

    with pytest.raises(TrainingStopped, match="data-unavailable"):
        _world(tmp_path, lose)
    ledger = tmp_path / "consortium" / "sites" / TWIN / "private" / "ledger.jsonl"
    assert [record["kind"] for record in read_chain(ledger).records] == ["moved"]


def _corrupt(folder: Path) -> None:
    (folder / "scans/a/3.png").write_bytes(b"\x89PNG junk")


def _undeclared_folder(folder: Path) -> None:
    (folder / "scans/masks").mkdir()
    (folder / "scans/a/3.png").rename(folder / "scans/masks/3.png")


def _unowned(folder: Path) -> None:
    file = folder / "scans/patients.csv"
    file.write_text(file.read_text().replace("a/3.png", "a/x.png"))


def _all_corrupt(folder: Path) -> None:
    for file in (folder / "scans").rglob("*.png"):
        file.write_bytes(b"junk")


def test_pictures_answer_as_their_twins(tmp_path: Path) -> None:
    worlds = {}
    for change in (None, _corrupt, _undeclared_folder, _unowned, _all_corrupt):
        name = change.__name__ if change else "first"
        (tmp_path / name).mkdir()
        # Everybody is drawn, so that the picture is met.
        worlds[name] = _world(tmp_path / name, change, kind="pictures", training__sampling_rate=1.0)
    assert all(world == worlds["first"] for world in worlds.values())
    log = tmp_path / "_corrupt/consortium/sites" / TWIN / "private/readings.log"
    assert "scans/a/3.png" in log.read_text()
    assert len(log.read_text().splitlines()) == 1
    everywhere = [
        p
        for p in (tmp_path / "_corrupt/run").rglob("*")
        if p.is_file() and b"3.png" in p.read_bytes()
    ]
    assert not everywhere


LAYERS: dict[str, object] = {
    "exchange__name": "layers",
    "model__name": "mlp",
    "sealing__scheme": "bfv",
    "privacy__regime": "FPDP",
}


def test_a_run_of_layers_answers_as_its_twin(tmp_path: Path) -> None:
    worlds = []
    for count in (LARGEST, LARGEST - 1):
        (tmp_path / str(count)).mkdir()
        worlds.append(_world(tmp_path / str(count), _patients(count), **LAYERS))
    assert worlds[0] == worlds[1]


@pytest.mark.parametrize("count", [1, LARGEST + 1])
@pytest.mark.parametrize("bound", [0, LARGEST + 1])
def test_a_run_of_layers_is_refused_by_the_stamp_whatever_the_records(
    tmp_path: Path, count: int, bound: int
) -> None:
    with pytest.raises(TrainingStopped, match=r"3 of 4 hospitals joined.*site-refused"):
        _world(tmp_path, _patients(count), stamp=bound, **LAYERS)
