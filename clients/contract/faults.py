"""What a hospital tells the server when it cannot answer: a code, never a reason.

The text of an exception can carry a patient's value, so it stays in the hospital's own log. The
server gets one of the codes below (or the code of a sealing error, which is enumerated too).
"""

from __future__ import annotations

#: code -> what whoever reads it at the server should know. Nothing in here depends on data.
MEANINGS: dict[str, str] = {
    "internal": "an unexpected error; its traceback is in the hospital's own log",
    "settings-refused": "the settings of the run are not valid at the hospital",
    "not-invited": "the node is not one of the hospitals of this training",
    "data-unavailable": "the hospital could not read its own data",
    "behind": "the hospital missed sums and needs to catch up",
    "stale-round": "the request belongs to another round than the hospital's",
    "keys-missing": "the hospital has no keys for this training",
    "terms-differ": "hospital and server do not agree on the public parameters",
    "digest-differs": "another hospital opened a different sum for an earlier round",
    "limit-refused": "the hospital's own limit forbids the round",
    "budget-exceeded": "the round would exceed the privacy budget",
    "seed-refused": "seeded runs need test-mode = true in the hospital's own site.toml",
    "app-refused": "the hospital does not allow this app: its bundle is not in allowed-apps",
    "site-refused": "the hospital's own site.toml has faults, or does not fit the run",
    "release-refused": "a model without noise is released after the last round only",
    "not-public": "per-hospital figures are not released for data that are not declared public",
    "unreachable": "no reply in time; the node may be down",
}

#: Flower reserves small numbers for its own error codes.
FLOWER_ERROR_CODE = 1000


class Fault(Exception):
    """A hospital cannot go on.

    Attributes:
        code: what the server is told.
        detail: what the hospital's own log is told.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        if code.split(":")[0] not in MEANINGS:
            raise ValueError(f"unknown fault code {code!r}; known: {', '.join(sorted(MEANINGS))}")
        super().__init__(code)
        self.code = code
        self.detail = detail or MEANINGS[code.split(":")[0]]
