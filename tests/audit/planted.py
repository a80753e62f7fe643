"""Faults planted into the real pipeline, each a small patch that is applied while a block runs.

Every one of them is a mistake that a system of this kind could make and go on working: models are
trained, epsilons are printed, all other tests of its own might pass. Each says which detector sees
it, from what leaves hospitals and from their ledgers alone.
"""

from __future__ import annotations

from tests.audit.batch_faults import BATCH_FAULTS
from tests.audit.book_faults import BOOK_FAULTS
from tests.audit.faults import Fault
from tests.audit.noise_faults import NOISE_FAULTS

FAULTS: tuple[Fault, ...] = (*NOISE_FAULTS, *BATCH_FAULTS, *BOOK_FAULTS)
