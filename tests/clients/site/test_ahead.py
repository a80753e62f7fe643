"""What is made ahead of an update is for that update alone, whatever becomes of the attempt."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from clients.contract.faults import Code, Fault
from clients.learning.gradients import Gradients
from clients.site import ahead as ahead_module
from clients.site import chances
from clients.site.ahead import Ahead, Room, is_spare
from clients.site.chances import Chances
from clients.site.hospital import Hospital
from clients.site.machine import Machine
from crypto.errors import KeysError
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from tests.exchange_runs import read_json, recorded, run_app, trained
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

PLACE = Place(training="t", round=1, attempt=1)


def made(started: threading.Event | None = None) -> Prepared:
    if started is not None:
        started.set()
    return Prepared("a", PLACE, lambda values, seeds: None)  # type: ignore[arg-type,return-value]


def begin(
    ahead: Ahead, make: Callable[[], Prepared] = made, size: int = 1
) -> Callable[[], Prepared]:
    return ahead.begin(make, size=size, discard=lambda one: one.discard())


def test_it_is_made_while_the_block_runs() -> None:
    started = threading.Event()
    with Ahead() as ahead:
        prepared = begin(ahead, lambda: made(started))
        assert started.wait(5)
        assert not prepared().spent
        assert prepared() is prepared()


def test_what_a_block_leaves_is_thrown_away() -> None:
    with Ahead() as ahead:
        left = begin(ahead)()
    assert left.spent


def test_so_it_is_where_the_block_fails_before_it_is_there() -> None:
    found: list[Prepared] = []
    go_on = threading.Event()

    def late() -> Prepared:
        go_on.wait(5)
        found.append(made())
        return found[0]

    with pytest.raises(ZeroDivisionError), Ahead() as ahead:
        begin(ahead, late)
        go_on.set()
        raise ZeroDivisionError
    assert found[0].spent


def fails() -> Prepared:
    raise KeysError("gone")


@pytest.mark.parametrize("room", [0, 1])
def test_what_making_it_raises_comes_where_it_is_asked_for(room: int) -> None:
    with pytest.raises(KeysError, match="gone"), Ahead(Room(room)) as ahead:
        begin(ahead, fails)()
    with pytest.raises(ZeroDivisionError), Ahead(Room(room)) as ahead:
        begin(ahead, fails)
        raise ZeroDivisionError  # is not covered up


def test_what_finds_no_room_is_made_when_it_is_asked_for_and_thrown_away_too() -> None:
    room, threads = Room(10), []

    def where() -> Prepared:
        threads.append(threading.current_thread().name)
        return made()

    with Ahead(room) as one, Ahead(room) as other:
        first, second = begin(one, where, 6), begin(other, where, 6)
        first()
        assert len(threads) == 1
        assert second() is second()
        third = begin(other, where, 4)
        third()
    assert [name.startswith("ahead") for name in threads] == [True, False, True]
    assert first().spent and second().spent and third().spent


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_room_comes_back_whatever_becomes_of_the_block(error: type[Exception] | None) -> None:
    room = Room(10)
    for _ in range(3):
        with pytest.raises(error) if error else nullcontext(), Ahead(room) as ahead:
            begin(ahead, fails if error else made, 10)
            assert not room.take(1)
            if error:
                raise error
    assert room.take(10)


def test_a_process_never_holds_more_ahead_than_there_is_room_for() -> None:
    room, held, most, lock = Room(2), [0], [0], threading.Lock()

    def hold() -> bool:
        if not threading.current_thread().name.startswith("ahead"):
            return False
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return True

    def release(ahead: bool) -> None:
        with lock:
            held[0] -= ahead

    def work() -> None:
        for _ in range(50):
            with Ahead(room) as ahead:
                ahead.begin(hold, size=1, discard=release)()

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert held == [0] and 1 <= most[0] <= 2
    assert room.take(2)


class Watched:
    """All that hospitals prepare in a run, and what they seal with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: list[tuple[str, int, int]] = []
        self.sealed: list[tuple[str, int, int]] = []
        self.made: dict[tuple[str, int, int], threading.Event] = defaultdict(threading.Event)
        self.alive: list[weakref.ref[Finish]] = []
        self.most = 0
        self.ahead: set[bool] = set()
        self._real = chances.make_sealer
        monkeypatch.setattr(chances, "make_sealer", self._sealer)

    def _sealer(self, plan: Any, keys: Any, name: str) -> Any:
        sealer, watched = self._real(plan, keys, name), self

        class Watching:
            def prepare(self, place: Place, *, ahead: bool) -> Prepared:
                watched.ahead.add(ahead)
                return watched._prepared(sealer.prepare(place, ahead=ahead))

        return Watching()

    def _prepared(self, whole: Any) -> Prepared:
        at = whole.hospital, whole.place.round, whole.place.attempt
        self.places.append(at)
        self.made[at].set()
        finish = Finish(whole, at, self.sealed)
        self.alive.append(weakref.ref(finish))
        self.most = max(self.most, self.left())
        return Prepared(whole.hospital, whole.place, finish)

    def left(self) -> int:
        return sum(one() is not None for one in self.alive)


class Finish:
    def __init__(self, whole: Any, at: tuple[str, int, int], sealed: list[Any]) -> None:
        self._whole, self._at, self._sealed = whole, at, sealed

    def __call__(self, values: Vector, seeds: Any) -> Sealed:
        self._sealed.append(self._at)
        return self._whole.seal(values, seeds)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("simulated", "device", "threads", "processes", "spare"),
    [
        (True, "cpu", 1, 1, False),
        (True, "cuda:0", 1, 1, True),
        (False, "cpu", 1, 1, True),
        (False, "cpu", 4, 1, False),
        (False, "cpu", 1, 3, True),
        (False, "cpu", 1, 4, False),
        (False, "cuda:0", 4, 1, True),
    ],
)
def test_more_than_has_to_be_is_done_where_a_processor_is_free(
    simulated: bool,
    device: str,
    threads: int,
    processes: int,
    spare: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    site = SimpleNamespace(
        simulated=simulated, machine=Machine.with_processes(device, threads, processes)
    )
    assert is_spare(site, torch.device(device)) is spare  # type: ignore[arg-type]


def files(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (out / "sites").rglob("*") if path.is_file()}


@pytest.mark.parametrize("spare", [False, True])
def test_every_place_is_prepared_once_and_nothing_of_it_stays(
    spare: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    monkeypatch.setattr(ahead_module, "is_spare", lambda site, device: spare)
    run_app(small_settings(tmp_path, sealing__scheme="one-time"))
    assert watched.sealed == watched.places
    assert Counter(watched.places) == {
        (f"hospital-0{k}", n, 1): 1 for k in range(4) for n in (1, 2, 3)
    }
    assert watched.ahead == {False}  # what is more in all is not worth it in a simulation
    gc.collect()
    assert watched.left() == 0
    assert watched.most <= 2  # one process answered for all: what one message takes, at a time


class Killed(KeyboardInterrupt):
    """What a signal leaves of a process."""


@pytest.mark.parametrize("how", [RuntimeError, Killed])
def test_an_attempt_that_fails_on_the_way_leaves_nothing_to_seal_with(
    how: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process is gone: the next attempt is sealed with what is prepared for it."""
    watched, paid, real = Watched(monkeypatch), Hospital.spend, Gradients.contribute
    monkeypatch.setattr(ahead_module, "is_spare", lambda site, device: True)
    seen: list[dict[Path, bytes]] = []

    def spend(self: Hospital, place: Any, *given: Any, **named: Any) -> Any:
        receipt = paid(self, place, *given, **named)
        if self.site.name == "hospital-02" and place.round == 2 and not seen:
            seen.append(files(tmp_path))
        return receipt

    def contribute(self: Gradients, replica: Any, draws: Any) -> Any:
        if len(seen) == 1:
            assert watched.made["hospital-02", 2, 1].wait(10)
            seen.append(files(tmp_path))
            raise how("in the middle of a gradient")
        return real(self, replica, draws)

    monkeypatch.setattr(Hospital, "spend", spend)
    monkeypatch.setattr(Gradients, "contribute", contribute)
    settings = small_settings(tmp_path, sealing__scheme="one-time", run__seed=-1)
    with pytest.raises(Killed) if how is Killed else nullcontext():
        run_app(settings)
    if how is Killed:
        run_app(settings)  # new processes, also of the server
    assert read_json(settings, "summary.json")["status"] == "finished"
    assert ("hospital-02", 2, 1) in watched.places
    assert ("hospital-02", 2, 1) not in watched.sealed
    assert ("hospital-02", 2, 2) in watched.sealed
    assert max(Counter(watched.sealed).values()) == 1
    gc.collect()
    assert watched.left() == 0
    assert seen[0] == seen[1]  # nothing was written since the place was paid for


def test_nothing_is_prepared_for_a_place_that_is_not_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, paid = Watched(monkeypatch), Hospital.spend
    monkeypatch.setattr(ahead_module, "is_spare", lambda site, device: True)
    refused: list[Place] = []

    def spend(self: Hospital, place: Any, *given: Any, **named: Any) -> Any:
        if self.site.name == "hospital-01" and place.round == 2 and not refused:
            refused.append(place)
            raise Fault(Code.LIMIT_REFUSED, parameter="max-epsilon")
        return paid(self, place, *given, **named)

    monkeypatch.setattr(Hospital, "spend", spend)
    settings = small_settings(tmp_path, sealing__scheme="one-time")
    run_app(settings)
    assert refused and ("hospital-01", 2, 1) not in watched.places
    assert ("hospital-01", 2, 2) in watched.sealed
    assert [row["attempt"] for row in recorded(settings, "round") if row["round"] == 2] == [1, 2]


def same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> int:
    """Whether a processor is free changes no bit; returns how often noise was drawn ahead."""
    drawn, real = [], Chances.noise_ahead

    def watched(self: Chances, grid: Any, place: Any, count: int) -> Any:
        drawn.append(place)
        return real(self, grid, place, count)

    monkeypatch.setattr(Chances, "noise_ahead", watched)
    busy = trained(tmp_path / "busy", **changes)
    assert not drawn
    monkeypatch.setattr(ahead_module, "is_spare", lambda site, device: True)
    free = trained(tmp_path / "free", **changes)
    assert all(np.array_equal(busy[name], free[name]) for name in busy)
    return len(drawn)


@pytest.mark.parametrize("scheme", ["bfv", "one-time"])
def test_a_model_is_the_same_bits_whatever_was_made_ahead(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert same_bits(tmp_path, monkeypatch, sealing__scheme=scheme) == 4 * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"exchange__name": "weights", "exchange__local_steps": 2, "privacy__regime": "FPDP"},
        {"privacy__regime": "F", "privacy__noise_multiplier": 0.0},
        {"partition__hospitals": 5, "privacy__dropouts": 1, "sealing__scheme": "one-time"},
    ],
    ids=["two local steps", "no noise", "noise in parts"],
)
def test_so_it_is_with_more_steps_no_noise_or_noise_in_parts(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert same_bits(tmp_path, monkeypatch, training__rounds=2, **changes) > 0
