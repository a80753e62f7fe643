"""What asks a command to end ends it wherever it comes, and leaves no half module behind."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from simulations.signals import Terminated, heeding_sigterm


class Ending:
    """Gets the signal while it ends, where an exception is ignored."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def wait() -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.01)


def test_it_is_raised_at_once() -> None:
    with heeding_sigterm() as came, pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    assert came.is_set()


def test_at_the_end_of_an_object_it_is_raised_a_moment_later() -> None:
    with heeding_sigterm() as came:
        one = Ending()
        del one
        assert came.is_set()
        with pytest.raises(Terminated):
            wait()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_an_import_comes_to_its_end_first(
    number: signal.Signals,
    expected: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"interrupted_{number.name.lower()}"
    (tmp_path / f"{name}.py").write_text(
        f"import signal, time\nsignal.raise_signal({int(number)})\ntime.sleep(0.2)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    with heeding_sigterm(), pytest.raises(expected):
        assert importlib.import_module(name).whole
        wait()
    assert sys.modules[name].whole


def test_who_leads_a_run_from_a_module_that_is_imported_can_be_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner.py").write_text("import signal\nsignal.raise_signal(15)\nwhole = True\n")
    (tmp_path / "leads.py").write_text(
        "import signal\n"
        "from simulations.signals import Terminated, heeding_sigterm\n"
        "with heeding_sigterm():\n"
        "    try:\n"
        "        signal.raise_signal(15)\n"
        "        ended = False\n"
        "    except Terminated:\n"
        "        ended = True\n"
        "    import inner\n"
        "    import time\n"
        "    try:\n"
        "        time.sleep(10)\n"
        "        whole = False\n"
        "    except Terminated:\n"
        "        whole = inner.whole\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    leads = importlib.import_module("leads")
    assert leads.ended
    assert leads.whole


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="loggers take it in a statement there")
def test_a_logger_that_has_its_lock_gives_it_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers take the lock, and only then begin what gives it back whatever happens."""
    take = logging._acquireLock

    def take_and_be_interrupted() -> None:
        take()
        signal.raise_signal(signal.SIGTERM)

    with heeding_sigterm() as came, pytest.raises(Terminated):
        with monkeypatch.context() as patched:
            patched.setattr(logging, "_acquireLock", take_and_be_interrupted)
            logging.getLogger("asclepias.one-of-its-own")
        assert came.is_set()
        wait()
    other = threading.Thread(target=logging.getLogger, args=("asclepias.another",), daemon=True)
    other.start()
    other.join(timeout=10)
    assert not other.is_alive()


def test_in_what_is_called_at_an_end_it_is_raised_a_moment_later() -> None:
    class Thing:
        pass

    with heeding_sigterm(), pytest.raises(Terminated):
        kept: weakref.WeakValueDictionary[str, Thing] = weakref.WeakValueDictionary()
        one = Thing()
        kept["thing"] = one
        weakref.finalize(one, signal.raise_signal, signal.SIGTERM)
        del one
        wait()


@pytest.mark.parametrize("own", [True, False], ids=["own handler", "a library's"])
def test_what_is_raised_around_a_fork_comes_again(own: bool) -> None:
    """Python ignores what a handler raises there, also the exit that Ray's own handler asks for."""
    waiting = [signal.SIGTERM]

    def forked() -> None:
        if waiting:
            signal.raise_signal(waiting.pop())

    os.register_at_fork(after_in_parent=forked)  # stays for good, and does nothing afterwards
    expected: type[BaseException] = Terminated
    with heeding_sigterm(), pytest.raises((Terminated, SystemExit)) as raised:
        if not own:
            expected = SystemExit
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        wait()
    assert raised.type is expected
