"""The records that a real hospital takes part with: its own, or its part of a public benchmark.

Nothing here holds a true number of patients against what somebody else says: a refusal would tell
it. Only what the hospital declares is compared.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.contract.printable import printable_lines
from clients.site.data_stamp import stamp_covers
from clients.site.ground import append_log, private_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.contract.settings import Settings
    from clients.data import Cohort, Cohorts
    from clients.site.site_file import SiteFile


def own_cohort(
    file: SiteFile,
    settings: Settings,
    cohorts: Cohorts,
    bring: Callable[[str, str], Cohort] | None = None,
) -> Cohort:
    """Return the cohort as the hospital knows it: its own records, or a public benchmark's.

    Args:
        file: the hospital's own.
        settings: the run's, with what the file says in the place of theirs.
        cohorts: where public benchmarks are read.
        bring: reads the records where the app itself brings them.

    Raises:
        Fault: the file does not fit the run.
    """
    if file.simulated_partition is None:
        _check_declared(file, settings)
        return bring(file.hospital, file.data_name) if bring else _own_records(file, settings)
    if bring is not None:
        raise Fault(
            Code.SITE_REFUSED,
            f"[data] simulated-partition = {file.simulated_partition}, but the app brings its own "
            "records; leave it out",
        )
    cohort = cohorts.of(settings)
    number = file.simulated_partition
    if number >= len(cohort.names) or cohort.names[number] != file.hospital:
        expected = cohort.names[number] if number < len(cohort.names) else "none"
        raise Fault(
            Code.SITE_REFUSED,
            f"[data] simulated-partition = {number} is {expected} of {len(cohort.names)} hospitals,"
            f" but hospital = {file.hospital!r}",
        )
    return cohort


def _check_declared(file: SiteFile, settings: Settings) -> None:
    """Insist on public sizes that a run over real records needs."""
    data = settings.data
    if not (data.patients and data.largest_hospital):
        raise Fault(
            Code.SITE_REFUSED,
            "a run over real records declares data.patients and data.largest-hospital, found "
            f"{data.patients} and {data.largest_hospital}",
        )
    if file.bound > data.largest_hospital:
        raise Fault(
            Code.SITE_REFUSED,
            f"[data] declares {file.bound} patients, the run at most {data.largest_hospital}",
        )
    # Only what is declared is compared: the true number must not decide on an answer.
    if settings.exchange.name == "layers" and not stamp_covers(
        file.private, data.largest_hospital, data=file.data_name
    ):
        raise Fault(
            Code.SITE_REFUSED,
            f"a run in slots for {data.largest_hospital} patients needs 'asclepias check-data'",
        )


def _own_records(file: SiteFile, settings: Settings) -> Cohort:
    from clients.data import Cohort, load_dataset
    from clients.data.records import posed

    _check_size(file, settings)
    data = settings.data
    dataset = load_dataset(
        file.data_name,
        file.data_dir,
        image_size=data.image_size,
        declared=not file.data_public,
    )
    dataset.log.write_to(partial(_log_reading, file))
    return Cohort(
        info=posed(dataset.info, settings.task.name),
        names=(file.hospital,),
        holdout=dataset.train.take([]),
        records={file.hospital: dataset.train},
        tests={} if dataset.test is None else {file.hospital: dataset.test},
        patient_names=dataset.patient_names,
    )


def _check_size(file: SiteFile, settings: Settings) -> None:
    """Refuse pictures or volumes larger than the hospital allows, by what is declared of them.

    The run chooses their size: how many of them are at work at once must not decide on whether an
    answer comes.
    """
    from clients.data.catalogue import declared_values

    size = settings.data.image_size
    found = declared_values(file.data_name, file.data_dir, size, declared=not file.data_public)
    if found > file.max_values:
        raise Fault(
            Code.SITE_REFUSED,
            f"data.image-size = {size} makes records of {found} values, [limits] max-values of "
            f"{file.path.name} allows {file.max_values}",
        )


def _log_reading(file: SiteFile, line: str) -> None:
    """Append what could not be read to the hospital's own log, once: records are read again often.

    A log that cannot be written is no reason to answer otherwise.
    """
    text = printable_lines(f"{file.data_name}: {line}").replace("\n", " ").encode()
    with suppress(OSError):
        path = private_folder(file.private) / "readings.log"
        # Bytes: a disk that was full may have cut a letter in two.
        known = path.read_bytes().splitlines() if path.exists() else []
        if text not in known:
            append_log(path, text + b"\n")
