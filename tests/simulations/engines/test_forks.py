"""Ray's workers are forks of one process, and are what Ray would have started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from simulations.engines import ray_worker
from simulations.engines.forks import Forks, start_forks, with_forks
from simulations.engines.ray_worker import Forking
from tests.simulations.engine_runs import SMALL, alive, descendants, environment, run_folder, title

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere Ray starts its workers itself"
)

HERE = "tests.simulations.engines.test_forks"
#: A run's Ray, asked line by line for a new worker each time, which says what it is.
RUNS = """
import json, os, random, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
from simulations.engines import forks

forks.start_forks()
os.environ["TOLD"] = "what was said after that"
os.environ.pop("UNTOLD")
import ray
from simulations.engines.ray_cluster import start_ray

os.umask(0o27)
os.nice(1)
start_ray("")
print(forks._forks[0].pid, flush=True)

def blocked(pid="self"):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return next(line for line in lines if line.startswith("SigBlk"))

class Look:
    def look(self):
        import numpy as np
        import threadpoolctl
        import torch
        before = "clients.site.hospital" in sys.modules
        return {
            "pid": os.getpid(), "parent": os.getppid(), "imported": before,
            "told": os.environ.get("TOLD"), "untold": os.environ.get("UNTOLD"),
            "nice": os.nice(0), "umask": os.umask(0o77), "blocked": blocked(),
            "folder": os.getcwd(), "raylet": os.environ["RAY_RAYLET_PID"],
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "first": open("/proc/self/oom_score_adj").read().strip(),
            "threads": [one["num_threads"] for one in threadpoolctl.threadpool_info()],
            "draws": [random.random(), float(np.random.random()), float(torch.rand(1))],
            "input": os.readlink("/proc/self/fd/0"), "errors": os.readlink("/proc/self/fd/2"),
        }

looks = []
for line in sys.stdin:
    looks.append(ray.remote(num_cpus=0)(Look).remote())
    print(json.dumps(ray.get(looks[-1].look.remote())), flush=True)
ray.shutdown()
"""


class Run:
    """A process that has a Ray."""

    def __init__(self) -> None:
        surroundings = environment() | {"UNTOLD": "then"}
        surroundings.pop("OMP_NUM_THREADS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=surroundings,
        )
        assert self.process.stdout is not None
        self.forking = int(self.process.stdout.readline())

    def look(self) -> dict[str, Any]:
        """Have a worker started, and return what it says of itself."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("look\n")
        self.process.stdin.flush()
        line = ""
        while not line.startswith("{"):  # Ray says there as well that a worker was killed
            line = self.process.stdout.readline()
            assert line
        found: dict[str, Any] = json.loads(line)
        return found

    def stand_ins(self) -> dict[int, Forking]:
        """Process ids, and whom each has asked."""
        words = {pid: title(pid).split() for pid in alive(descendants(self.process.pid))}
        return {
            pid: Forking(one[4], one[5], int(one[6]))
            for pid, one in words.items()
            if "ray_worker.py" in "".join(one[3:4])
        }

    def asked(self) -> Forking:
        """Return whom this run's workers are asked of."""
        self.look()
        return next(iter(self.stand_ins().values()))


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    made = Run()
    yield made
    made.process.communicate(timeout=60)


def gone(*pids: int) -> bool:
    end = time.monotonic() + 20
    while alive(set(pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(set(pids))


def test_workers_are_forks_with_what_ray_gave_them(run: Run) -> None:
    one, other = run.look(), run.look()
    for found in (one, other):
        assert found["parent"] == run.forking and found["imported"]
        assert (found["told"], found["untold"]) == ("what was said after that", None)
        assert set(found["threads"]) == {1} and found["first"] == "1000"
        assert found["files"][0] == min(found["files"][1], 65536)
        assert (found["nice"], found["umask"]) == (1, 0o27) and found["folder"] == str(Path.cwd())
        assert found["blocked"] == signals_kept_from(int(found["raylet"]))
        assert "raylet" in title(int(found["raylet"]))
        assert found["input"] == os.readlink(f"/proc/{found['raylet']}/fd/0")
        assert found["errors"].endswith(f"-{found['pid']}.err")
        assert title(found["pid"]).startswith("ray::Look")
    assert not set(one["draws"]) & set(other["draws"])


def signals_kept_from(pid: int) -> str:
    """Return what Ray keeps from what it starts: a terminal's Ctrl-C is for who leads."""
    [line] = [
        line
        for one in Path(f"/proc/{pid}/task").iterdir()
        for line in (one / "status").read_text().splitlines()
        if line.startswith("SigBlk") and one.name == str(pid)
    ]
    return line


def test_who_forks_has_one_thread_and_no_ray(run: Run) -> None:
    run.look()
    assert len(list(Path(f"/proc/{run.forking}/task").iterdir())) == 1
    assert "_raylet" not in Path(f"/proc/{run.forking}/maps").read_text()


def test_a_worker_and_what_stands_in_its_place_end_together(run: Run) -> None:
    before = set(run.stand_ins())
    worker = run.look()["pid"]
    [stand_in] = set(run.stand_ins()) - before
    os.kill(worker, signal.SIGKILL)
    assert gone(worker, stand_in)
    before = set(run.stand_ins())
    worker = run.look()["pid"]
    [stand_in] = set(run.stand_ins()) - before
    os.kill(stand_in, signal.SIGKILL)
    assert gone(worker, stand_in)


def test_who_asks_wrongly_is_left_alone_and_others_are_not(run: Run) -> None:
    name, word, _ = run.asked()
    known = ray_worker.request(word[:-1] + "x", {"command": ["x"]})
    for wrong in (
        b"",
        b"\0" * 200,
        word.encode() + b"\0\0\0\4{no}",
        word.encode() + b"\0\0\0\2[]",
        word.encode() + b"\0\0\0\2{}",
        word.encode() + b"\xff\xff\xff\xff",
        known,
    ):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(ray_worker.address(name))
            link.sendall(wrong)
            link.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                assert link.recv(1) == b""
    assert run.look()["parent"] == run.forking


def test_who_does_not_know_the_word_holds_nobody_up(run: Run) -> None:
    name, _, _ = run.asked()
    with ExitStack() as stack:
        for _ in range(3):
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(ray_worker.address(name))
            link.sendall(b"x")  # and no more
        start = time.monotonic()
        assert run.look()["parent"] == run.forking
        assert time.monotonic() - start < 20  # three who had ten seconds each would take thirty


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("user", "answered"), [(0, 1), (65534, 0)])
def test_another_user_is_forked_nothing(run: Run, tmp_path: Path, user: int, answered: int) -> None:
    program = tmp_path / "worker.py"
    program.write_text("")
    asks = f"""
import sys
sys.path.insert(0, {str(Path(ray_worker.__file__).parent)!r})
import os, socket, ray_worker
os.setuid({user})
forking = ray_worker.Forking(*{tuple(run.asked())!r})
ray_worker.credentials = lambda link: (forking.maker, os.geteuid())  # it trusts whoever forks
with socket.socket(socket.AF_UNIX) as link:
    sys.exit(ray_worker.asked(link, forking, ["", {str(program)!r}]) > 0)
"""
    found = subprocess.run([sys.executable, "-c", asks], timeout=20, check=False)
    assert found.returncode == answered


def test_nothing_is_told_to_another_process_that_has_the_name(tmp_path: Path) -> None:
    name = f"asclepias-forks-{os.getpid()}"
    listens = f"""
import os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind({ray_worker.address(name)!r})
listener.listen()
print("listens", flush=True)
link, _ = listener.accept()
print(len(link.recv(1)), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", listens], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "listens\n"
        forking = Forking(name, "x" * 32, os.getpid())
        assert stood_in(tmp_path, forking, "--language=PYTHON") == ["--language=PYTHON"]
        assert other.stdout.readline() == "0\n"


def stood_in(folder: Path, forking: Forking, *words: str) -> list[str]:
    """Return the words that Ray's own program is run with in the end."""
    program, out = folder / "setup_worker.py", folder / "words.json"
    program.write_text(f"import json, sys\njson.dump(sys.argv[1:], open({str(out)!r}, 'w'))\n")
    command = [sys.executable, "-I", "-S", ray_worker.__file__, *map(str, forking)]
    subprocess.run([*command, str(program), *words], check=True, timeout=60)
    found: list[str] = json.loads(out.read_text())
    return found


def test_where_nobody_forks_ray_starts_its_worker(tmp_path: Path) -> None:
    words = ["default_worker.py", "--worker-id=ab", "--language=PYTHON"]
    nobody = Forking("asclepias-forks-nobody", "x" * 32, os.getpid())
    assert stood_in(tmp_path, nobody, *words) == words


@pytest.mark.parametrize(
    "words", [["--language=PYTHON", "--serialized-runtime-env-context={}"], ["--language=JAVA"]]
)
def test_a_worker_with_an_environment_of_its_own_is_no_fork(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    words = ["default_worker.py", *words]
    assert stood_in(tmp_path, run.asked(), *words) == words


def test_a_large_environment_is_handed_on_whole(run: Run, tmp_path: Path) -> None:
    program, out = tmp_path / "worker.py", tmp_path / "found"
    program.write_text(
        "import os, pathlib\n"
        f"found = len(os.environ['LARGE']), os.getppid()\n"
        f"pathlib.Path({str(out)!r}).write_text(repr(found))\n"
    )
    command = [sys.executable, "-c", ASKS, *map(str, run.asked()), "", "--language=PYTHON"]
    subprocess.run([*command, str(program)], check=True, timeout=60)
    assert out.read_text() == repr((2**22, run.forking))


#: A stand-in with more in its environment than one call of the system could carry.
ASKS = f"""
import os, sys
sys.path.insert(0, {str(Path(ray_worker.__file__).parent)!r})
from ray_worker import Forking, stand_in
os.environ["LARGE"] = "x" * 2**22
name, word, maker, *command = sys.argv[1:]
sys.exit(stand_in(Forking(name, word, int(maker)), command))
"""


def greet(link: Any) -> None:
    link.send("hello " + link.recv())


def test_where_the_one_that_forks_is_stuck_ray_starts_its_worker(tmp_path: Path) -> None:
    forks = Forks()
    os.kill(forks.pid, signal.SIGSTOP)
    soon = Path(ray_worker.__file__).read_text().replace("_SECONDS = 30.0", "_SECONDS = 1.0")
    hasty = tmp_path / "hasty.py"
    hasty.write_text(soon)
    program, out = tmp_path / "setup_worker.py", tmp_path / "parents"
    program.write_text(f"import os\nprint(os.getppid(), file=open({str(out)!r}, 'a'))\n")
    forking = map(str, (forks.name, forks.word, os.getpid()))
    command = [sys.executable, "-I", "-S", str(hasty), *forking, str(program), "--language=PYTHON"]
    subprocess.run(command, check=True, timeout=60)
    assert out.read_text() == f"{os.getpid()}\n"
    # Nobody is forked afterwards for one that has given up.
    os.kill(forks.pid, signal.SIGCONT)
    link = forks.work(f"{HERE}:{greet.__name__}", "you")
    assert link is not None and link.recv() == "hello you"
    assert out.read_text() == f"{os.getpid()}\n"
    forks.end()


def test_workers_start_when_the_one_that_forks_has_been_killed() -> None:
    run = Run()
    os.kill(run.forking, signal.SIGKILL)
    found = run.look()
    assert found["parent"] == int(found["raylet"]) and not found["imported"]
    run.process.communicate(timeout=60)
    assert gone(found["pid"])


def test_only_a_raylets_command_for_its_workers_is_changed() -> None:
    start_forks()
    python = f"--python_worker_command={sys.executable}"
    for command in (
        ["gcs_server", "--log_dir=x"],
        ["raylet", f"{python} other.py default_worker.py"],
        ["raylet", "--python_worker_command=/other/python setup_worker.py default_worker.py"],
    ):
        assert with_forks(command) == command
    given = ["raylet", f"{python} setup_worker.py default_worker.py --a=b", "--head"]
    first, changed, last = with_forks(given)
    assert (first, last) == ("raylet", "--head")
    assert changed.startswith(f"{python} -I -S ")
    assert changed.endswith(" setup_worker.py default_worker.py --a=b")


#: A run whose Ray can start no worker at all.
STARTS_NONE = """
import sys
from pathlib import Path
from simulations.engines import actors, forks

forks._STAND_IN = Path(sys.argv.pop(1))
actors.LATE_SECONDS = 2.0
from simulations.cli import main

sys.exit(main())
"""


@pytest.mark.exhaustive
def test_a_user_is_told_where_to_look_when_no_process_of_hospitals_starts(tmp_path: Path) -> None:
    ends = tmp_path / "ends.py"
    ends.write_text("raise SystemExit(1)")
    told = ["run", "default", *SMALL, "--set", "run.timeout=8", "--out", str(tmp_path / "runs")]
    result = subprocess.run(
        [sys.executable, "-c", STARTS_NONE, str(ends), *told],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    said = " ".join(result.stderr.split())
    assert result.returncode == 1, said
    log = (run_folder(tmp_path / "runs") / "run.log").read_text()
    assert "WARNING simulations.engines.actors: no process of hospitals has started for 2 s" in log
    assert "0 of 4 hospitals joined" in said
    folder = said.partition("No process of hospitals had started; why, may stand in ")[2].split()[0]
    assert (Path(folder) / "raylet.out").exists()
