"""What a hospital's own site.toml decides, and what outlives its processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from accounting.ledger import read_ledger
from clients.contract.faults import Fault
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply, bytes_to_array
from clients.contract.settings import Settings
from clients.data import DataError
from clients.site.own_settings import invited_offers
from clients.site.readiness import site_faults
from clients.site.site_file import read_site_file
from crypto.ceremony import make_offer
from crypto.identity import Identity
from crypto.rosters import Roster
from deployment.consortium import Consortium
from strategies.errors import TrainingStopped
from tests.deployment.real_sites import (
    SiteGrid,
    answer,
    benchmark_consortium,
    rewrite,
    train,
    vouched,
    without_pins,
)
from tests.in_process import InProcessGrid, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def test_sites_with_a_new_process_a_message_end_in_the_simulated_model(tmp_path: Path) -> None:
    simulated, deployed = (small_settings(tmp_path / n) for n in ("simulated", "deployed"))
    train(simulated, InProcessGrid(simulated.to_config(), 4))
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    train(deployed, SiteGrid(deployed, consortium))
    models = [Path(s.run.out, "model.safetensors").read_bytes() for s in (simulated, deployed)]
    assert models[0] == models[1]
    assert not list((tmp_path / "deployed").rglob("*.key"))


def test_ledger_and_replica_are_on_the_hospitals_disk(tmp_path: Path) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    settings = small_settings(tmp_path / "run")
    private, replicas = consortium.site("hospital-02") / "private", []

    def look(request: Message, reply: Message | None) -> Message | None:
        if request.metadata.message_type == Kind.END and not replicas:
            replicas.extend(path.stat().st_size for path in private.glob("replica-*.bin"))
            _all_closed(private)
        return reply or request

    train(settings, SiteGrid(settings, consortium, look))
    lines = [json.loads(line) for line in (private / "ledger.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines if line.get("kind") == "spend"] == [1, 2, 3]
    assert len(replicas) == 1
    assert replicas[0] > 64
    _all_closed(private)


def _all_closed(private: Path) -> None:
    """Nobody but the owner reads a file of the folder."""
    for file in private.iterdir():
        if file.is_file() and file.suffix != ".log":
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_place_is_answered_once_whatever_else_is_asked_even_by_a_new_process(
    tmp_path: Path,
) -> None:
    """Neither a second noised vector nor a second roster of a round can be had from a site."""
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    settings = small_settings(tmp_path / "run", privacy__dropouts=1)
    said: dict[str, RoundReply] = {}

    def ask_again(request: Message, reply: Message | None) -> Message | None:
        if reply is None:
            return request
        words = request.content.config_records["config"]
        if request.metadata.message_type == Kind.TRAIN and words["server-round"] == 3 and not said:
            site = grid.sites[request.metadata.dst_node_id]
            said["first"] = RoundReply.read(reply.content)
            for name, message in (("same", request), ("other", _with_shorter_roster(request))):
                again = answer(message, site, settings.to_config())
                said[name] = RoundReply.read(again.content)
        return reply

    grid = SiteGrid(settings, consortium, ask_again)
    train(settings, grid)
    assert {(one.sealed, one.header) for one in said.values()} == {
        (said["first"].sealed, said["first"].header)
    }
    assert len(said) == 3


def _with_shorter_roster(request: Message) -> Message:
    """Return the request with one hospital left out of the roster of the round before."""
    arrays = request.content.array_records[ARRAYS]
    headers = Roster.from_bytes(arrays["roster.2"].data).headers
    shorter = bytes_to_array(Roster.of(headers[1:]).to_bytes())
    content = RecordDict(dict(request.content))
    content[ARRAYS] = ArrayRecord({**arrays, "roster.2": shorter})
    changed = Message(content, request.metadata.dst_node_id, Kind.TRAIN)
    changed.metadata.__dict__["_message_id"] = "changed"
    return changed


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("test-mode = true", "test-mode = false", "seed-refused"),
        ('hospital = "hospital-01"', 'hospital = "lyon"', "site-refused"),
        ('hospital = "hospital-01"', 'hospitol = "hospital-01"', "site-refused"),
        ("simulated-partition = 1", "simulated-partition = 9", "site-refused"),
        (f'allowed-apps = ["{"0" * 64}"]', "allowed-apps = []", "site-refused"),
        ('path = "private/ledger.jsonl"', 'path = "/dev/null"', "site-refused"),
        ('path = "private/ledger.jsonl"', 'path = "private"', "site-refused"),
    ],
)
def test_a_site_that_does_not_fit_the_run_does_not_join(
    tmp_path: Path, old: str, new: str, code: str
) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    rewrite(consortium, "hospital-01", old, new)
    settings = small_settings(tmp_path / "run")
    with pytest.raises(TrainingStopped, match=f"3 of 4 hospitals joined.*{code}"):
        train(settings, SiteGrid(settings, consortium))


def _open_to_others(place: str, mode: int) -> Callable[[Consortium], None]:
    return lambda made: (made.site("hospital-01") / place).chmod(mode)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda made: without_pins(made, "hospital-01"),
        _open_to_others("private", 0o755),
        _open_to_others("private/identity.key", 0o640),
        _open_to_others("site.toml", 0o666),
    ],
    ids=["pins", "private", "identity", "site.toml"],
)
def test_a_site_that_pins_nobody_or_is_open_to_others_does_not_join(
    tmp_path: Path, break_it: Callable[[Consortium], None]
) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    break_it(consortium)
    settings = small_settings(tmp_path / "run")
    with pytest.raises(TrainingStopped, match=r"3 of 4 hospitals joined.*site-refused"):
        train(settings, SiteGrid(settings, consortium))


def test_another_key_for_a_name_that_was_seen_is_refused_from_then_on(tmp_path: Path) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    for name in consortium.hospitals:
        without_pins(consortium, name)
        rewrite(consortium, name, "test-mode = true", "test-mode = true\ntrust-on-first-use = true")
    first, second, third = (small_settings(tmp_path / name) for name in "123")
    train(first, SiteGrid(first, consortium))
    seen = consortium.site("hospital-03") / "private" / "first-use.json"
    assert set(json.loads(seen.read_text())) == set(consortium.hospitals)
    assert seen.stat().st_mode & 0o777 == 0o600
    train(second, SiteGrid(second, consortium))
    key = consortium.site("hospital-02") / "private" / "identity.key"
    key.unlink()
    Identity.load_or_create(key)
    with pytest.raises(TrainingStopped, match="takes the name of"):
        train(third, SiteGrid(third, consortium))


@pytest.mark.parametrize(
    ("old", "new", "limit"),
    [
        ("min-hospitals = 2", "min-hospitals = 9", "limit-refused:min-hospitals"),
        ('["FSCDP", "FPDP", "F"]', '["FPDP"]', "limit-refused:allowed-regimes"),
        ("delta = 1e-4", "max-epsilon = 1e-3\ndelta = 1e-4", "limit-refused:max-epsilon"),
        ("min-noise-multiplier = 0.0", "min-noise-multiplier = 9", "min-noise-multiplier"),
    ],
)
def test_a_sites_own_limit_stops_a_run_before_anything_is_spent(
    tmp_path: Path, old: str, new: str, limit: str
) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    rewrite(consortium, "hospital-01", old, new)
    settings = small_settings(tmp_path / "run", run__attempts=1)
    with pytest.raises(TrainingStopped, match=limit):
        train(settings, SiteGrid(settings, consortium))
    ledger = consortium.site("hospital-01") / "private" / "ledger.jsonl"
    assert not ledger.exists() or not read_ledger(ledger).entries


def test_the_server_cannot_name_the_hospitals_data(tmp_path: Path) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    rewrite(consortium, "hospital-01", '"breast-cancer"', '"digits"')
    settings = small_settings(tmp_path / "run")
    # Digits have other pictures: the site keeps to its own data, and terms differ.
    with pytest.raises(TrainingStopped, match="hospital"):
        train(settings, SiteGrid(settings, consortium))


def test_a_wrong_fingerprint_ends_the_ceremony(tmp_path: Path) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    wrong = read_site_file(consortium.site("hospital-03") / "site.toml").pins["hospital-02"]
    right = read_site_file(consortium.site("hospital-03") / "site.toml").pins["hospital-00"]
    rewrite(consortium, "hospital-03", right, wrong)
    settings = small_settings(tmp_path / "run")
    with pytest.raises(TrainingStopped, match="hospital-03: site-refused"):
        train(settings, SiteGrid(settings, consortium))
    assert not list(consortium.site("hospital-03").glob("private/keys-*"))


def _with_tables(folder: Path, **changes: object) -> tuple[Settings, Consortium]:
    """Four hospitals with a table of their own each, and a run over them."""
    consortium = benchmark_consortium(
        folder / "consortium", 4, partitions=False, data={"name": "csv:visits.csv", "dir": "."}
    )
    for number, name in enumerate(consortium.hospitals):
        _write_table(consortium.site(name), number)
    (folder / "server").mkdir()
    given: dict[str, object] = {
        "privacy__noise_multiplier": 12.0,
        "data__patients": 40,
        "data__largest_hospital": 10,
        "data__public": False,
        "data__name": "csv:visits.csv",
        "data__dir": str(_write_table(folder / "server", 9).parent),
    }
    return small_settings(folder / "run", **{**given, **changes}), vouched(consortium)


def test_an_own_table_is_read_with_its_patient_column(tmp_path: Path) -> None:
    settings, consortium = _with_tables(tmp_path)
    train(settings, SiteGrid(settings, consortium))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 3


def test_what_stops_the_server_is_in_its_run_folder_and_in_no_tracker(tmp_path: Path) -> None:
    settings, consortium = _with_tables(tmp_path, data__dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError):
        train(settings, SiteGrid(settings, consortium))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "DataError; run.log" in json.loads(lines[-1])["message"]
    assert "nowhere" not in lines[-1]
    assert "nowhere" in (tmp_path / "run" / "run.log").read_text()


def test_only_hospitals_on_the_runs_list_take_part(tmp_path: Path) -> None:
    settings, consortium = _with_tables(
        tmp_path, partition__hospitals=3, partition__sites="hospital-00,hospital-02,hospital-03"
    )
    grid = SiteGrid(settings, consortium)
    train(settings, grid)
    ceremony = json.loads((tmp_path / "run" / "server" / "ceremony.json").read_text())
    assert set(ceremony["public-keys"]) == {"hospital-00", "hospital-02", "hospital-03"}
    [refused] = [reply for reply in grid.replies if reply.has_error()]
    assert grid.sites[refused.metadata.src_node_id].parent.name == "hospital-01"
    assert refused.error.reason == "not-invited"
    left = {file.name for file in (consortium.site("hospital-01") / "private").iterdir()}
    assert left == {"node.key", "identity.key", "ledger.jsonl"}


def test_a_listed_hospital_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings, consortium = _with_tables(
        tmp_path, partition__sites="hospital-00,hospital-01,hospital-02,lyon"
    )
    with pytest.raises(TrainingStopped, match="3 of 4 hospitals joined, lyon did not"):
        train(settings, SiteGrid(settings, consortium))


def test_a_hospital_takes_no_keys_for_others_than_those_on_the_list(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, partition__hospitals=2, partition__sites="lyon,turin")
    offers = {
        name: make_offer("t", name, Identity.load_or_create(tmp_path / f"{name}.key"))[0].to_bytes()
        for name in ("lyon", "turin", "berlin")
    }
    read = invited_offers(settings, [offers["lyon"], offers["turin"]])
    assert [offer.name for offer in read] == ["lyon", "turin"]
    with pytest.raises(Fault, match="not-invited"):
        invited_offers(settings, list(offers.values()))


def _cyclic_model(folder: Path, declared: str = "") -> bytes:
    folder.mkdir()
    settings, consortium = _with_tables(
        folder,
        exchange__name="cyclic",
        privacy__regime="FPDP",
        training__rounds=4,
    )
    if declared:
        rewrite(consortium, "hospital-02", "[data]\n", f"[data]\n{declared}\n")
    train(settings, SiteGrid(settings, consortium))
    return (folder / "run" / "model.safetensors").read_bytes()


def test_local_steps_are_divided_by_what_the_hospital_declares(tmp_path: Path) -> None:
    mean = _cyclic_model(tmp_path / "mean")
    assert _cyclic_model(tmp_path / "same", "patients = 10") == mean, "N/K is 10"
    assert _cyclic_model(tmp_path / "own", "patients = 7") != mean


def test_a_hospital_that_declares_more_patients_than_the_run_allows_stays_out(
    tmp_path: Path,
) -> None:
    settings, consortium = _with_tables(tmp_path)
    rewrite(consortium, "hospital-02", "[data]\n", "[data]\npatients = 11\n")
    with pytest.raises(TrainingStopped, match=r"3 of 4 hospitals joined.*site-refused"):
        train(settings, SiteGrid(settings, consortium))


def test_no_secret_of_the_ceremony_outlives_it_even_if_a_leaders_answer_is_lost(
    tmp_path: Path,
) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    settings = small_settings(tmp_path / "run")
    kept: list[bool] = []
    keys: set[bytes] = set()

    def lose_the_first_answer(request: Message, reply: Message | None) -> Message | None:
        if request.metadata.message_type == Kind.END and not keys:
            # Each file begins with a line on the hospital's own book.
            found = [file.read_bytes() for file in consortium.folder.rglob("keys-*.bin")]
            keys.update(data.partition(b"\n")[2] for data in found)
        if request.metadata.message_type != Kind.LEAD or reply is None or kept:
            return reply or request
        private = grid.sites[request.metadata.dst_node_id].parent / "private"
        kept.append(any(private.glob("ceremony-*")) and any(private.glob("keys-*")))
        return None

    grid = SiteGrid(settings, consortium, lose_the_first_answer)
    train(settings, grid)
    assert kept == [True], "another may lead, so the first leader's secret is still needed"
    assert not list(consortium.folder.rglob("ceremony-*.key"))
    assert len(keys) == 1, "all hold the second leader's keys"


def test_undeclared_numbers_of_patients_are_refused(tmp_path: Path) -> None:
    consortium = benchmark_consortium(
        tmp_path / "consortium", 4, partitions=False, data={"name": "breast-cancer"}
    )
    settings = small_settings(tmp_path / "run")
    with pytest.raises(TrainingStopped, match=r"0 of 4 hospitals joined.*site-refused"):
        train(settings, SiteGrid(settings, consortium))


def _write_table(folder: Path, number: int) -> Path:
    rows = ["patient,age,outcome"]
    rows += [f"p{k // 2},{20 + (7 * k + number) % 60},{'ab'[k % 2]}" for k in range(20)]
    (folder / "visits.csv").write_text("\n".join(rows) + "\n")
    declared = 'target = "outcome"\nclasses = ["a", "b"]\npatient = "patient"\n'
    (folder / "visits.toml").write_text(declared + "[ranges]\nage = [0, 110]\n")
    return folder / "visits.csv"


def test_a_training_id_cannot_leave_the_private_folder(tmp_path: Path) -> None:
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 4))
    settings = small_settings(tmp_path / "run")
    grid = SiteGrid(settings, consortium)
    train(settings, grid)
    join = next(m for m in grid.requests if m.metadata.message_type.endswith("join"))
    join.content.config_records["config"]["training"] = "../../outside"
    reply = answer(join, grid.sites[join.metadata.dst_node_id], settings.to_config())
    assert reply.error.reason == "malformed"
    assert not list(tmp_path.rglob("*outside*"))


def test_a_ledger_in_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 2)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    rewrite(made, "hospital-00", "private/ledger.jsonl", str(shared / "ledger.jsonl"))
    site = read_site_file(made.site("hospital-00") / "site.toml")
    assert site.ledger.parent == shared
    assert any(str(shared) in fault for fault in site_faults(site)), site_faults(site)
    shared.chmod(0o1777)  # nobody but its owner renames a file there
    assert not any(str(shared) in fault for fault in site_faults(site)), site_faults(site)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_keeps_a_site_from_taking_part(
    tmp_path: Path, device: str
) -> None:
    made = benchmark_consortium(tmp_path / "c", 2)
    rewrite(made, "hospital-00", 'device = "auto"', f'device = "{device}"')
    site = read_site_file(made.site("hospital-00") / "site.toml")
    (fault,) = [one for one in site_faults(site) if "[node]" in one]
    assert str(site.path) in fault and repr(device) in fault
    rewrite(made, "hospital-00", f'device = "{device}"', 'device = "cpu"')
    site = read_site_file(made.site("hospital-00") / "site.toml")
    assert not [one for one in site_faults(site) if "[node]" in one]
