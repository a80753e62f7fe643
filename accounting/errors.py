"""What can go wrong in an account, as exceptions that name the value found and the bound."""

from __future__ import annotations


class AccountingError(ValueError):
    """A privacy parameter is out of range, or an epsilon cannot be computed soundly."""


class LedgerError(RuntimeError):
    """A ledger cannot be read, or belongs to another site or cohort. Nothing was spent."""


class LimitRefused(AccountingError):
    """A request exceeds one of the site's own limits. No data was touched.

    Attributes:
        limit: kebab-case name of the limit, as in the site's own file.
        found: what was asked for.
        bound: what the site allows.
    """

    def __init__(self, limit: str, found: object, bound: object) -> None:
        super().__init__(f"limit {limit}: found {found}, this site allows {bound}")
        self.limit = limit
        self.found = found
        self.bound = bound

    def __reduce__(self) -> tuple[type[LimitRefused], tuple[str, object, object]]:
        return type(self), (self.limit, self.found, self.bound)


class BookError(LedgerError):
    """A move that the book of a training does not allow. Nothing was written.

    Attributes:
        code: one word for the answer: "malformed", "training-bound", "keys-missing",
            "stale-place", "opening-refused" or "training-retired".
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    def __reduce__(self) -> tuple[type[BookError], tuple[str, str]]:
        return type(self), (self.code, str(self))


class AuditFailed(AccountingError):
    """What was seen cannot be chance: a claim does not hold, or the run is not what it says."""
