"""The ledgers that a process holds open: few, since a simulated one answers for many sites."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from accounting.ledger import Ledger

#: A process has a limited number of files.
MOST = 128


class Ledgers:
    """Open ledgers by file; the one that was used longest ago is closed for the next."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Ledger] = OrderedDict()

    def open(self, path: Path, *, site: str, cohort: str, durable: bool) -> Ledger:
        """Return a site's ledger for a cohort, as `Ledger` opens it.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        ledger = self._open.get(path)
        if ledger is None or ledger.cohort != cohort:
            ledger = Ledger(path, site=site, cohort=cohort, durable=durable)
            self.close(path)
            self._open[path] = ledger
            while len(self._open) > MOST:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return ledger

    def close(self, path: Path) -> None:
        """Close a ledger, if it is open."""
        if (ledger := self._open.pop(path, None)) is not None:
            ledger.close()

    def close_all(self) -> None:
        """Close every ledger that is open."""
        for path in list(self._open):
            self.close(path)
