"""What can be wrong with a model."""

from __future__ import annotations


class ModelError(Exception):
    """A model that cannot be built, loaded or trained privately.

    Attributes:
        code: kebab-case kind of the fault.
    """

    code = "model"

    def __init__(self, message: str, *, code: str = "model") -> None:
        super().__init__(message)
        self.code = code
