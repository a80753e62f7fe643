"""What can be wrong with data, each kind by a code that tells nothing about any patient.

The message names file, row, value and expectation and stays in the hospital's own log; only `code`
may travel.
"""

from __future__ import annotations


class DataError(Exception):
    """Data that cannot be used as they are.

    Attributes:
        code: kebab-case kind of the fault; the only part that may leave a hospital.
    """

    code = "data"

    def __init__(self, message: str, *, code: str = "data") -> None:
        super().__init__(message)
        self.code = code
