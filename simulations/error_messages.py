"""Errors as a user reads them: one paragraph that says what to do, and an exit code."""

from __future__ import annotations

import sys
import traceback

import click
import typer

from clients.contract.printable import printable_lines

ASKED_WRONGLY = 2
FAILED = 1
INTERRUPTED = 130

#: Exceptions of the rooms whose own message is written for users.
WRITTEN_FOR_USERS = {
    ("simulations.audit.results", "DataAuditFailed"),
    ("simulations.engines.engine", "RunStopped"),
    ("simulations.audit.results", "DataAuditFailed"),
    ("strategies.errors", "TrainingStopped"),
    ("accounting.errors", "AccountingError"),
    ("accounting.errors", "LedgerError"),
    ("crypto.errors", "SealingError"),
    ("clients.data.errors", "DataError"),
    ("clients.models.errors", "ModelError"),
    ("clients.prediction.artefact", "ArtefactError"),
    ("simulations.prediction.predicting", "NotPredicted"),
    ("clients.site.site_file", "SiteFileError"),
    ("deployment.errors", "DeploymentError"),
}


def show_error(error: BaseException, *, debug: bool) -> int:
    """Write an error to standard error and return the exit code that it means.

    Args:
        error: what ended the command.
        debug: show the traceback as well.
    """
    text, code = explain(error)
    if code == FAILED:
        sentences = [text, *getattr(error, "__notes__", [])]
        text = " ".join(one if one.endswith((".", "!")) else f"{one}." for one in sentences)
    if debug and code != INTERRUPTED:
        trace = "".join(traceback.format_exception(error)).rstrip()
        typer.echo(printable_lines(trace), err=True)
    if text:
        typer.echo(printable_lines(text), err=True)
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """Return what to tell the user, and the exit code."""
    from clients.contract.settings import SettingsError
    from strategies.run.reading import NoRun

    if isinstance(error, SettingsError):
        count = len(error.faults)
        head = "one setting is wrong" if count == 1 else f"{count} settings are wrong"
        return "\n".join([f"Nothing was started: {head}.", *_bullets(error.faults)]), ASKED_WRONGLY
    if isinstance(error, click.exceptions.Exit):
        return "", error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error), ASKED_WRONGLY
    if isinstance(error, NoRun):
        return str(error), ASKED_WRONGLY
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "", INTERRUPTED
    if _raised_as(error, {("simulations.launch", "Interrupted")}):
        return str(error), INTERRUPTED
    if _raised_as(error, WRITTEN_FOR_USERS):
        return str(error), FAILED
    name = type(error).__name__
    return (
        f"Something went wrong that should not have: {name}: {str(error).rstrip('.')}. "
        "Run the same command with --debug to see where; a run's own folder holds run.log.",
        FAILED,
    )


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
