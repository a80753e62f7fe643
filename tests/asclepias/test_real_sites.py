"""An app of one's own at real hospitals: their own file, book and limits, whatever the app is."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from accounting.book import Book
from asclepias import Patients, SecureFedAvg, private_client
from clients.site.site_file import read_site_file
from strategies.errors import TrainingStopped
from tests.asclepias.own_apps import PATIENTS, AppGrid, first_arrays, furthest, net, records
from tests.door.sites import Sites

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


def load(context: Context) -> Patients:
    """Records of the hospital whose file the node names."""
    assert context.run_config == {"local-steps": 2}  # the app's own, not ours
    hospital = Path(str(context.node_config["site"])).parent.name
    return Patients(*records(int(hospital[-2:])))


def own_app() -> ClientApp:
    return private_client(net, lambda context: load(context), one_record_each=True)


class RealGrid(AppGrid):
    """Nodes that name their hospital's file; every message has a process of its own."""

    def __init__(self, sites: Sites) -> None:
        super().__init__(own_app, len(sites.names), fresh=True)
        self._sites = dict(zip(self._ids, sites.names, strict=True))
        self.consortium = sites.consortium

    def answer_of_hospital(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        file = self.consortium.site(self._sites[node]) / "site.toml"
        context = Context(
            run_id=self.run_id,
            node_id=node,
            node_config={"site": str(file)},
            state=RecordDict(),
            run_config=self._config,
        )
        return self._app()(message, context)


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    data = {"name": "own-records", "public": False}
    return Sites(tmp_path / "consortium", data=data, partitions=False, test_mode=False)


def start(sites: Sites, folder: Path, noise: float):
    strategy = SecureFedAvg(patients=PATIENTS, noise_multiplier=noise, audit=False, folder=folder)
    return strategy.start(RealGrid(sites), first_arrays(), num_rounds=2)


@pytest.mark.exhaustive
def test_real_hospitals_write_what_they_spend_into_their_own_books(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = start(sites, tmp_path / "run", 8.0)
    assert furthest(result.arrays, first_arrays()) > 0.0
    for name in sites.names:
        file = read_site_file(sites.consortium.site(name) / "site.toml")
        with Book(file.ledger, site=name, cohort="own-records") as book:
            spent = [one for one in book.entries() if one.purpose == "gradients"]
        assert [one.round for one in spent] == [1, 2]
        assert all(one.views for one in spent)


def test_a_hospitals_own_limit_stops_whatever_app_asks(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert read_site_file(sites.consortium.site(sites.names[1]) / "site.toml").limits.max_epsilon
    with pytest.raises(TrainingStopped, match=r"limit-refused:max-epsilon"):
        start(sites, tmp_path / "run", 1.0)
