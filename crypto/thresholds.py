"""How many answers open a sum of keys, and how many hospitals may work against the others.

Every hospital deals shares of its key to H holders by polynomials of degree t - 1; a holder answers
one roster a place with the sum of its members' shares. t answers for one roster give the sum of its
keys. But answers for *different* rosters are points of polynomials that share terms, and may be
combined: with H = 3 and t = 2, answers for {a}, {b} and {a, b} give an equation between two small
keys, though no roster got two answers. So t must be larger than what keeps two rosters from being
opened.

Theorem. Let honest holders answer one roster a place, c_H holders collude or answer twice, c
hospitals collude, K - d be the least size of a roster. If ``3t > 2H + c_H``, or if ``2t > H + c_H``
and ``K - c >= 5d``, then all answers together tell of the honest keys nothing but one sum: that of
the honest members of the rosters which t - c_H honest holders answered.

Proof. What colluding dealers gave is known to them and is subtracted. Given the colluders' shares,
an honest dealer's polynomial is ``known + Z(x)*g_k(x)`` with deg g_k < m = t - c_H and g_k(0) the
key up to a factor. A linear function (l_k) of the keys is learnt iff weights w_j != 0 on a set J of
honest holders have ``sum over j in J_k of w_j*ev(x_j) = l_k*ev(0)`` for every honest k, where J_k
are those of J whose roster holds k. Up to m evaluations at distinct points, 0 included, are
independent: J_k is empty or has m members at least, and J_k and J_l are equal or differ in m at
least. (i) Every roster lacks at most d, and |J_k - J_l| <= 2(H - c_H - m) < m if 3t > 2H + c_H: all
J_k that are not empty are equal, to J, so one sum is learnt; a second one would need m holders
more, and 2m > H - c_H. (ii) If H - c_H < 2m and two non-empty classes of equal J_k exist, none is
J, so somebody misses all of a class: it has at most d members; at most one class misses fewer than
m/2 of J, so the others have fewer than 4d members together: fewer than 5d honest hospitals in all.
"""

from crypto.errors import CapacityError

#: More hospitals than this choose a committee of holders.
MOST_HOLDERS = 20
#: Whatever is opened must hold the updates of this many honest hospitals.
LEAST_HONEST = 2


def most_colluders(*, hospitals: int, holders: int, threshold: int, dropouts: int) -> int:
    """The largest number of hospitals that learn one sum only, whatever they and the server do.

    All of them may be holders, and a holder that was restored from a backup counts as one.

    Returns:
        c_max; -1 where not even the server alone is held.
    """
    safe = -1
    for colluders in range(min(hospitals, holders) + 1):
        few = colluders < threshold and hospitals - dropouts - colluders >= LEAST_HONEST
        apart = 3 * threshold > 2 * holders + colluders
        spread = 2 * threshold > holders + colluders and hospitals - colluders >= 5 * dropouts
        if not (few and (apart or spread)):
            break
        safe = colluders
    return safe


def plan_threshold(
    *, hospitals: int, holders: int, dropouts: int, silent: int, colluders: int
) -> int:
    """t, the answers that open a sum.

    Args:
        hospitals: K.
        holders: H; at most 20.
        dropouts: d, hospitals that may be missing from a sum.
        silent: Holders that may not answer; t = H - silent.
        colluders: Hospitals that may work together with the server, planned.

    Raises:
        CapacityError: Fewer than `colluders`, or not one, could be held; says what would do.
    """
    if not 1 <= holders <= min(hospitals, MOST_HOLDERS):
        raise CapacityError(f"{holders} holders of {hospitals} hospitals, expected 1 to 20")
    threshold = holders - silent
    safe = most_colluders(
        hospitals=hospitals, holders=holders, threshold=threshold, dropouts=dropouts
    )
    wanted = max(1, colluders)
    if safe < wanted:
        enough = _hospitals_for(dropouts, wanted, silent if holders < hospitals else None)
        raise CapacityError(
            f"with {hospitals} hospitals, {holders} holders and {dropouts} dropouts, {threshold} "
            f"answers hold against the server and {max(safe, 0)} hospitals, wanted {wanted}: lower "
            f"the dropouts, or have {enough} hospitals at least"
        )
    return threshold


def _hospitals_for(dropouts: int, colluders: int, silent: int | None) -> int:
    """The fewest hospitals that would do, all of them holders up to 20."""
    for hospitals in range(2, 1024):
        holders = min(hospitals, MOST_HOLDERS)
        missing = dropouts if silent is None or holders == hospitals else silent
        safe = most_colluders(
            hospitals=hospitals, holders=holders, threshold=holders - missing, dropouts=dropouts
        )
        if safe >= colluders:
            return hospitals
    return 1024
