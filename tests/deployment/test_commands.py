"""The command line: what it prints, what it refuses, and who may ask a SuperLink for what."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clients.contract.settings import Settings
from clients.site.site_file import read_site_file
from crypto.planning import plan_sealing
from crypto.roles import Quantiser
from deployment.cli import main
from deployment.errors import DeploymentError
from deployment.submission import with_hospitals
from deployment.superlink import LocalOnly
from deployment.superlink_folder import read_superlink
from simulations.scenario import read_scenario, resolve
from strategies.run.journal import Journal
from tests.deployment.real_sites import benchmark_consortium


def test_init_makes_a_consortium_that_its_own_files_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "c"
    words = ["init", str(folder), "--address", "fl.example.org:9092", "--data", "npz:scans.npz"]
    assert main([*words, "--hospital", "lyon", "--hospital", "turin"]) == 0
    link = read_superlink(folder)
    assert (link.address, link.hospitals) == ("fl.example.org:9092", ("lyon", "turin"))
    site = read_site_file(folder / "sites" / "turin" / "site.toml")
    assert (site.hospital, site.superlink, site.data_name) == (
        "turin",
        "fl.example.org:9092",
        "npz:scans.npz",
    )
    assert site.limits.max_epsilon is not None
    assert not site.test_mode
    assert len(site.allowed_apps) == 1
    printed = capsys.readouterr().out
    assert site.pins["lyon"] in printed


FOUR = [word for name in "abcd" for word in ("--hospital", name)]


@pytest.mark.parametrize(
    ("more", "held"),
    [(["--scheme", "bfv"], 0), ([], 3), (["--dropouts", "1"], 1)],
    ids=["bfv", "full", "threshold"],
)
def test_init_drafts_a_run_and_sites_that_demand_what_its_sealing_holds(
    tmp_path: Path, more: list[str], held: int
) -> None:
    folder = tmp_path / "c"
    assert main(["init", str(folder), *FOUR, "--hospital", "e", *more]) == 0
    text = (folder / "superlink" / "run.toml").read_text()
    assert f"up to {held} of them" in text
    settings = resolve(read_scenario(folder / "superlink" / "run.toml"))
    assert settings.partition.invited == ("a", "b", "c", "d", "e")
    assert settings.sealing.scheme == ("bfv" if "bfv" in more else "one-time")
    assert settings.privacy.dropouts == (1 if "--dropouts" in more else 0)
    for name in "abcde":
        site = read_site_file(folder / "sites" / name / "site.toml")
        assert site.limits.min_colluders == min(1, held)


def test_init_takes_the_sealing_of_stand_ins_from_their_scenario(tmp_path: Path) -> None:
    words = ["--set", "partition.hospitals=5", "--set", "sealing.scheme=one-time"]
    folder = tmp_path / "c"
    more = ["--set", "privacy.dropouts=1"]
    assert main(["init", str(folder), "--benchmark", "default", *words, *more]) == 0
    site = read_site_file(folder / "sites" / "hospital-00" / "site.toml")
    assert site.limits.min_colluders == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init", "c", "--hospital", "lyon"], "at least two hospitals"),
        (["init", "c", "--hospital", "a", "--hospital", "b", "--test-mode"], "no privacy"),
        (["init", "c", "--benchmark", "default", "--hospital", "a"], "leave --hospital out"),
        (["init", "c", *FOUR, "--dropouts", "1"], "have 5 hospitals at"),
        (["init", "c", *FOUR, "--scheme", "rsa"], "sealing.scheme"),
        (["init", "c", "--benchmark", "default", "--dropouts", "1"], "and --set"),
        (["superlink", "nowhere"], "asclepias init"),
        (["status", "nowhere"], "asclepias init"),
        (["supernode", "--site", "nowhere"], "does not exist"),
        (["submit", "default", "--superlink", "nowhere"], "asclepias init"),
        (["check"], "--site DIR or --superlink DIR"),
        (["sumbit", "default"], "submit"),
    ],
)
def test_a_mistake_gets_one_sentence_that_says_what_to_do(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_traceback_is_shown_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    words = ["check-data", "--site", str(tmp_path)]
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err
    words.insert(place, "--debug")
    assert main(words) == 2
    assert "Traceback" in capsys.readouterr().err


def test_keys_print_the_public_halves_and_refuse_to_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "--site", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "ecdsa-sha2-nistp384" in printed
    assert "SHA256:" in printed
    assert main(["keys", "--site", str(tmp_path)]) == 2
    assert "move it away first" in capsys.readouterr().err


HOSPITALS = ("berlin", "lyon", "turin")


def _run_for(count: int, **changes: object) -> Settings:
    config = {"partition.hospitals": count, **changes}
    return Settings.from_config(config)  # type: ignore[arg-type]


def test_a_run_carries_the_names_of_its_hospitals() -> None:
    assert with_hospitals(_run_for(3), HOSPITALS).partition.invited == HOSPITALS
    named = _run_for(2, **{"partition.sites": "turin,lyon"})
    assert with_hospitals(named, HOSPITALS).partition.invited == ("lyon", "turin")


@pytest.mark.parametrize(
    ("settings", "online", "said"),
    [
        (_run_for(3), HOSPITALS[:2], "2 of 3 hospitals are connected"),
        (_run_for(2), HOSPITALS, r"--set partition\.sites=berlin,lyon"),
        (_run_for(2, **{"partition.sites": "lyon,rome"}), HOSPITALS, "1 of 2.*rome is not"),
    ],
)
def test_a_run_that_has_not_its_hospitals_is_not_submitted(
    settings: Settings, online: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DeploymentError, match=said):
        with_hospitals(settings, online)


def test_a_training_goes_on_with_its_own_hospitals_and_as_few_as_it_was_planned_for(
    tmp_path: Path,
) -> None:
    plan = plan_sealing(
        values=10, hospitals=3, grid=Quantiser(step=0.5, bound=8.0), scheme="modular"
    )
    keys = {name: bytes(32) for name in HOSPITALS}
    Journal(tmp_path / "server").keep_ceremony(
        training="t",
        nonce=bytes(16),
        terms="",
        bind=bytes(32),
        public_keys=keys,
        plan=plan,
        key_id=bytes(16),
        noise_multiplier=1.0,
    )
    settings = _run_for(3, **{"privacy.dropouts": 1, "run.out": str(tmp_path)})
    going_on = with_hospitals(settings, ("berlin", "rome", "turin"))
    assert going_on.partition.invited == HOSPITALS
    with pytest.raises(DeploymentError, match=r"1 of 3.*berlin, lyon is not"):
        with_hospitals(settings, ("rome", "turin"))


def test_records_that_the_server_cannot_read_are_found_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    (tmp_path / "outcomes.toml").write_text('[data]\nname = "csv:public.csv"\ndir = "public"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "outcomes.toml", "--superlink", str(made.superlink)]) == 2
    assert f"{tmp_path / 'public' / 'public.csv'} does not exist" in capsys.readouterr().err
    assert not (made.superlink / "runs").exists()


def _status(path: str, client: str) -> int:
    """Ask `LocalOnly` for a path from an address; 200 is the SuperLink behind it."""

    async def superlink(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200})  # type: ignore[operator]

    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "client": (client, 4711)}
    asyncio.run(LocalOnly(superlink)(scope, None, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "client", "status"),
    [
        ("/v1/fleet/pull-messages", "10.0.0.7", 200),
        ("/health", "10.0.0.7", 200),
        ("/v1/control/start-run", "10.0.0.7", 403),
        ("/v1/control/register-node", "10.0.0.7", 403),
        ("/v1/runtime/acquire-task", "10.0.0.7", 403),
        ("/v1/fleet/../control/start-run", "10.0.0.7", 403),
        ("/", "10.0.0.7", 403),
        ("/v1/control/start-run", "127.0.0.1", 200),
        ("/v1/runtime/acquire-task", "::1", 200),
    ],
)
def test_only_the_hospitals_interface_is_open_to_other_machines(
    path: str, client: str, status: int
) -> None:
    assert _status(path, client) == status
