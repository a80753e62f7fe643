"""Who is in which slot of a pass: secret, distinct, uniformly random slots of a public number.

A pass of split learning shows ``batches * size`` slots, a number that depends on public bounds
alone; each patient fills one, the rest are empty, and every slot carries noise. Dealing patients by
their order would move everybody when one leaves.

Formal guarantee: for data sets that differ by one patient, the slots of all *other* patients have
the same distribution, and given these the two data sets' slots differ in one place, which is empty
in one of them. Proof: patient ``i`` gets the i-th entry of a uniformly random order of all slots.
Take that patient's entry out of the order and put it at the end: this is a bijection of orders, so
the order that it makes is uniformly random as well, and with it the smaller data set's patients get
exactly the slots that they have in the larger one. A message clipped to C for each slot therefore
changes by at most C ("zero-out" of a slot), and so does a sum of contributions of slots.

A pass is dealt once: `clients.site.deals` keeps its deal, whatever becomes of records meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accounting.randomness import Stream


def deal_slots(patients: int, *, batches: int, size: int, stream: Stream) -> NDArray[np.int64]:
    """Deal slots to patients for one pass.

    Args:
        patients: how many there are; private.
        batches: of a pass.
        size: slots of a batch; public.
        stream: the secret stream of this pass, and of nothing else.

    Returns:
        int64, at most ``[patients]``: slot ``b * size + s`` is place ``s`` of batch ``b``.
        A hospital with more patients than slots has declared too few: the last ones are left out of
        the pass, since an error would tell the server of it. Its operator's own check comes first.
    """
    return stream.permutation(batches * size)[:patients]
