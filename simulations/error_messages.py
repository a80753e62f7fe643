"""Errors as a user reads them: one paragraph that says what to do, and an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import typer

from clients.contract.printable import printable_lines

ASKED_WRONGLY = 2
FAILED = 1
INTERRUPTED = 130
TERMINATED = 143

#: What a machine does not give, and what can be done about it.
MACHINE = {
    errno.ENOSPC: "the disk is full; make room on it",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: "the disk can only be read; choose a folder on another",
    errno.EACCES: "this user may not write there; choose another folder",
    errno.EPERM: "this user may not write there; choose another folder",
    errno.ENOTDIR: "a part of that path is a file; choose another folder",
    errno.EEXIST: "there is a file of that name; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EMFILE: "too many files are open; raise ulimit -n",
}

#: Exceptions of the rooms whose own message is written for users: what was begun and failed, ...
FAILURES = {
    ("simulations.attacks.result", "AttackFailed"),
    ("simulations.engines.engine", "RunStopped"),
    ("simulations.audit.results", "DataAuditFailed"),
    ("strategies.errors", "TrainingStopped"),
    ("accounting.errors", "AccountingError"),
    ("accounting.errors", "LedgerError"),
    ("crypto.errors", "SealingError"),
    ("clients.models.errors", "ModelError"),
    ("simulations.prediction.predicting", "PredictionFailed"),
    ("deployment.errors", "DeploymentFailed"),
}
#: ... and files and words with which nothing could be begun.
CANNOT_BE_WORKED_WITH = {
    ("clients.data.errors", "DataError"),
    ("clients.prediction.artefact", "ArtefactError"),
    ("simulations.prediction.predicting", "NotPredicted"),
    ("clients.site.site_file", "SiteFileError"),
    ("deployment.errors", "DeploymentError"),
}


class NotStarted(Exception):
    """What was asked for cannot be begun here; the message says why, and what to do."""


class Interrupted(Exception):
    """The user ended a command; what was done is on disk, and the message says how to go on.

    Args:
        text: what to say.
        code: the exit code that this ending has.
    """

    def __init__(self, text: str, code: int = INTERRUPTED) -> None:
        super().__init__(text)
        self.code = code


def interrupted(text: str, error: KeyboardInterrupt) -> Interrupted:
    """Return what to say of a command that was ended by Ctrl-C, or by SIGTERM."""
    return Interrupted(text, _code_of(error))


def show_error(error: BaseException, *, debug: bool) -> int:
    """Write an error to standard error and return the exit code that it means.

    Args:
        error: what ended the command.
        debug: show the traceback as well.
    """
    text, code = explain(error)
    if code == FAILED or _raised_as(error, CANNOT_BE_WORKED_WITH):
        sentences = [text, *getattr(error, "__notes__", [])]
        text = " ".join(one if one.endswith((".", "!", "?")) else f"{one}." for one in sentences)
    if debug and code not in (INTERRUPTED, TERMINATED):
        trace = "".join(traceback.format_exception(error)).rstrip()
        typer.echo(printable_lines(trace), err=True)
    if text:
        typer.echo(printable_lines(text), err=True)
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """Return what to tell the user, and the exit code."""
    from clients.contract.settings import SettingsError
    from strategies.run.folder import RunInUse
    from strategies.run.reading import NoRun

    if isinstance(error, NotStarted):
        return f"Nothing was started: {error}", ASKED_WRONGLY
    if isinstance(error, SettingsError):
        count = len(error.faults)
        head = "one setting is wrong" if count == 1 else f"{count} settings are wrong"
        return "\n".join([f"Nothing was started: {head}.", *_bullets(error.faults)]), ASKED_WRONGLY
    if isinstance(error, click.exceptions.Exit):
        return "", error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error), ASKED_WRONGLY
    if isinstance(error, NoRun | RunInUse):
        return str(error), ASKED_WRONGLY
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "", _code_of(error)
    if isinstance(error, Interrupted):
        return str(error), error.code
    if isinstance(error, OSError) and error.errno in MACHINE:
        return machine_fault(error), FAILED
    if _raised_as(error, FAILURES):
        return str(error), FAILED
    if _raised_as(error, CANNOT_BE_WORKED_WITH):
        return str(error), ASKED_WRONGLY
    name = type(error).__name__
    return (
        f"Something went wrong that should not have: {name}: {str(error).rstrip('.')}. "
        "Run the same command with --debug to see where; a run's own folder holds run.log.",
        FAILED,
    )


def machine_fault(error: OSError) -> str:
    """Return what a machine does not give, and what to do, in a sentence."""
    why = MACHINE.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return f"{error.filename or 'A file'} cannot be written: {why}"


@contextmanager
def asked_of_the_machine(folder: Path, option: str = "") -> Iterator[None]:
    """Turn what the machine refuses, while a folder is made, into a sentence.

    Args:
        folder: which one.
        option: of the command line, which chooses another.

    Raises:
        NotStarted: it refuses.
    """
    try:
        yield
    except BlockingIOError:
        raise  # nothing is refused: somebody else is there
    except OSError as error:
        error.filename = error.filename or str(folder)
        hint = f" ({option})" if option else ""
        raise NotStarted(f"{machine_fault(error)}{hint}.") from error


def _code_of(error: BaseException) -> int:
    return TERMINATED if _raised_as(error, {("simulations.signals", "Terminated")}) else INTERRUPTED


def _raised_as(error: BaseException, kinds: set[tuple[str, str]]) -> bool:
    """Whether the error is of one of the kinds; imports no room to find out."""
    for module, name in kinds:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return True
    return False


def _bullets(faults: list[str]) -> list[str]:
    return [f"  - {fault}" for fault in faults]


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "flower-simulation"
    return f"{error.format_message()}\n'{command} --help' shows how it is used."
