"""Whom a site's limit is against, and the noise that each such observer has to face.

A line of a hospital's book says for every spending what is left of its noise for whom, so that a
limit can be checked long after, against whomever the site names then.

    >>> from accounting.noise import make_noise_plan
    >>> plan = make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=4)
    >>> views = views_of_spend(plan, regime="FSCDP", exchange="gradients", scheme="bfv")
    >>> for name, left in views.items():
    ...     print(name, round(left, 2))
    server 2.0
    hospital 1.73
    colluders:2 1.41
    colluders:3 1.0
    server+hospitals:1 1.0

A number of hospitals stands for every larger one up to the next that is there: three hospitals
together with the server see here what one with it does, and of four there are three others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from accounting.errors import AccountingError
from accounting.noise import NoisePlan, multiplier_against
from accounting.vocabulary import EXCHANGES, REGIMES, SCHEMES, Scheme

#: Most hospitals that a limit may suppose to collude.
MOST_HOSPITALS = 64

EXPECTED = (
    '"server", "hospital", "colluders:2" or "server+hospitals:1", '
    f"with any number of hospitals from 1 to {MOST_HOSPITALS}"
)

_WORDS = re.compile(r"(server|hospital)|(colluders|server\+hospitals):([0-9]{1,6})")

Views = Mapping[str, float | None]
Kind = Literal["server", "hospital", "colluders", "server+hospitals"]


@dataclass(frozen=True, slots=True)
class Against:
    """An observer that a limit is for: the strongest that the site reckons with.

    Attributes:
        kind: "server"; "hospital" (any one other); "colluders" (that many other hospitals, who
            pool what they know); "server+hospitals" (that many of them together with the server).
        hospitals: how many other hospitals are in it.
    """

    kind: Kind
    hospitals: int

    def __post_init__(self) -> None:
        least = {"server": 0, "hospital": 1}.get(self.kind)
        if self.hospitals != least if least is not None else not self._counted():
            raise AccountingError(f"against is {str(self)!r}, expected {EXPECTED}")

    def _counted(self) -> bool:
        return 1 <= self.hospitals <= MOST_HOSPITALS

    def __str__(self) -> str:
        return self.kind if self.kind in ("server", "hospital") else f"{self.kind}:{self.hospitals}"

    @property
    def title(self) -> str:
        """A few words for people."""
        if self.kind == "server":
            return "the server"
        if self.kind == "hospital":
            return "any one other hospital"
        if self.kind == "colluders":
            return f"any {self.hospitals} other hospitals together"
        more = "hospitals" if self.hospitals > 1 else "hospital"
        return f"the server together with any {self.hospitals} other {more}"


HOSPITAL = Against("hospital", 1)


def parse_against(text: str) -> Against:
    """The observer of a word of `[limits] against`.

    Raises:
        AccountingError: there is none of that name, or it has too many hospitals.
    """
    found = _WORDS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise AccountingError(f"against is {text!r}, expected {EXPECTED}")
    alone, counted, number = found.groups()
    if alone:
        return HOSPITAL if alone == "hospital" else Against("server", 0)
    return Against("colluders" if counted == "colluders" else "server+hospitals", int(number))


def views_of_spend(
    plan: NoisePlan, *, regime: str, exchange: str, scheme: str, held: int | None = None
) -> dict[str, float | None]:
    """What each observer that a limit may name has to face in one spending, for its line.

    Guarantee: an observer's whole view of what is released is, for neighbours that differ by one
    patient at one hospital, a post-processing of sums or messages with this much Gaussian noise, in
    units of the clip, if at most d hospitals are missing from a sum. `accounting.views` says why.

    Args:
        plan: the training's noise plan.
        regime: a name in `REGIMES`, of the plan's noise.
        exchange: a name in `EXCHANGES`.
        scheme: a name in `SCHEMES`: what keeps single updates from the server.
        held: hospitals that may work with the server and still open sums alone, where keys for one
            sum are shared; None: all but one.

    Returns:
        Noise multipliers by observer; None: no noise, so no finite epsilon.

    Raises:
        AccountingError: a name is unknown, the plan is another regime's, or shares of noise would
            be shown outside a sum, or `held` is not said where hospitals may be missing.
    """
    for word, name, table in (
        ("regime", regime, REGIMES),
        ("exchange", exchange, EXCHANGES),
        ("scheme", scheme, SCHEMES),
    ):
        if name not in table:
            raise AccountingError(f"{word} is {name!r}, expected one of {', '.join(table)}")
    if REGIMES[regime].noise != plan.name:
        raise AccountingError(f"regime {regime} has noise {REGIMES[regime].noise}, not {plan.name}")
    if plan.name == "none":
        return _of_all(None)
    if plan.name == "local":
        return _of_all(plan.multiplier_of_update)
    if plan.name == "central":  # the curator is the server, and holds the data
        return {**_of_all(plan.multiplier_of_sum), "server": None, "server+hospitals:1": None}
    if not EXCHANGES[exchange].sums_alone:
        raise AccountingError(f"exchange {exchange}: a share of the noise protects only in a sum")
    return _of_shares(plan, SCHEMES[scheme], held)


def _of_all(multiplier: float | None) -> dict[str, float | None]:
    return {"server": multiplier, "hospital": multiplier, "server+hospitals:1": multiplier}


def _of_shares(plan: NoisePlan, scheme: Scheme, held: int | None) -> dict[str, float | None]:
    update = plan.multiplier_of_update
    views: dict[str, float | None] = {
        "server": plan.multiplier_of_sum if scheme.hides else update,
        "hospital": multiplier_against(plan, min(1, plan.hospitals - 1)),
    }
    last = views["hospital"]
    for number in range(2, min(plan.hospitals - 1, MOST_HOSPITALS) + 1):
        left = multiplier_against(plan, number, held)
        if left != last:
            views[f"colluders:{number}"] = last = left
    if not scheme.sums_alone:
        return {**views, "server+hospitals:1": update}
    # The server opens nothing that the hospitals beside it do not open as well, up to so many.
    if plan.dropouts and held is None:
        raise AccountingError("shared keys open sums alone, but to how many hospitals is not said")
    together = {1: views["hospital"]}
    for name in views:
        kind, _, count = name.partition(":")
        if kind == "colluders" and (held is None or int(count) <= held):
            together[int(count)] = views[name]
    if held is not None:
        together[held + 1] = plan.kept(0)
    return {**views, **{f"server+hospitals:{n}": faced for n, faced in together.items()}}


def multiplier_of(
    noise_multiplier: float, against: Against, *, views: Views, purpose: str = ""
) -> float | None:
    """The noise multiplier that an observer has to face in a spending.

    Every observer is taken to know as well what the server, by itself, does, wherever the line
    says how much that is.

    A line without views, such as every line of format 1, does not say how its noise was shared out.
    Where whole models or single records' messages travel it was local noise, which is all there for
    everybody. Elsewhere it may have been shared by as few hospitals as there can be: c + 1 of them,
    which leaves c others sigma/sqrt(c + 1) of a sum. Whether the server saw sums only is not said.

    Args:
        noise_multiplier: of the line's event, for a line without views.
        against: the observer.
        views: of the line.
        purpose: of the line.

    Returns:
        The multiplier; None: nothing bounds what the observer learns.
    """
    if "server" in views and "hospital" in views:
        return _known(views, against)
    if purpose in EXCHANGES and not EXCHANGES[purpose].sums_alone:
        return noise_multiplier
    if against.kind in ("server", "server+hospitals"):
        return None
    return float(noise_multiplier / (against.hospitals + 1.0) ** 0.5)


def _known(views: Views, against: Against) -> float | None:
    """The least noise that the observer, or the server alone, faces."""
    faced = [views["server"]]
    if against.kind != "server":
        faced.append(views["hospital"])
    for name, left in views.items():
        kind, _, number = name.partition(":")
        if kind == against.kind and number.isdecimal() and int(number) <= against.hospitals:
            faced.append(left)
    if against.kind == "server+hospitals" and "server+hospitals:1" not in views:
        return None
    least: float | None = faced[0]
    for left in faced[1:]:
        least = None if least is None or left is None else min(least, left)
    return least
