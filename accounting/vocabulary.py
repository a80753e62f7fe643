"""The words of the field that a run is described in, each in one table with what is known about it.

A regime says who holds data, who adds noise and who is trusted; an exchange what travels; a scheme
what keeps single updates from the server. Settings, limits, observers, reports and the table of
sound combinations all read these three; nobody lists the words again.

    >>> REGIMES["FSCDP"].noise
    'semi-central'
    >>> EXCHANGES["layers"].sums_alone  # single records' messages reach the server too
    False
    >>> SCHEMES["modular"].hides
    False
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: The names as types, for whoever declares a value; each lists what its table below holds.
RegimeName = Literal["C", "CDP", "F", "FPDP", "FSCDP"]
ExchangeName = Literal["gradients", "weights", "layers", "cyclic", "single", "ensemble"]
SchemeName = Literal["plain", "modular", "bfv", "ckks", "one-time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How data, noise and trust are arranged (Malekzadeh et al. 2021, section 4.3).

    Attributes:
        title: a few words for people.
        pooled: whether a curator holds all the data.
        noise: name of the noise plan in `accounting.noise`.
    """

    title: str
    pooled: bool
    noise: str

    @property
    def private(self) -> bool:
        """Whether noise is added at all."""
        return self.noise != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What travels between hospitals and server.

    Attributes:
        title: a few words for people.
        sums: whether hospitals contribute to sums, which are sealed and opened.
        travels: whether whole models travel, each private by itself or not at all.
        messages: whether messages about single records reach the server.
    """

    title: str
    sums: bool = False
    travels: bool = False
    messages: bool = False

    @property
    def sums_alone(self) -> bool:
        """Whether opened sums are all that anybody but the hospital sees."""
        return self.sums and not self.messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What keeps single updates from the server.

    Attributes:
        hides: whether the server cannot read what it adds.
        opens: what a sum opens to: the "floats" that were added, the exact sum on the "grid", or an
            "approximate" one.
        sums_alone: whether a hospital's keys open sums of all and nothing else, also for whoever
            sees what the server sees: no hospital then makes the server's view a better one.
    """

    hides: bool
    opens: Literal["floats", "grid", "approximate"]
    sums_alone: bool = False


REGIMES: Mapping[str, Regime] = {
    "C": Regime(title="pooled data, no noise", pooled=True, noise="none"),
    "CDP": Regime(title="pooled data, noise on the sum", pooled=True, noise="central"),
    "F": Regime(title="federated, no noise", pooled=False, noise="none"),
    "FPDP": Regime(title="federated, each hospital alone private", pooled=False, noise="local"),
    "FSCDP": Regime(title="federated, sealed, the sum private", pooled=False, noise="semi-central"),
}

EXCHANGES: Mapping[str, Exchange] = {
    "gradients": Exchange(title="one clipped gradient sum per round", sums=True),
    "weights": Exchange(title="the update of some local steps per round", sums=True),
    "layers": Exchange(title="split learning, cut at a layer", sums=True, messages=True),
    "cyclic": Exchange(title="one model visits all hospitals, again and again", travels=True),
    "single": Exchange(title="one model visits each hospital once", travels=True),
    "ensemble": Exchange(title="a model for each hospital, deciding together", travels=True),
}

SCHEMES: Mapping[str, Scheme] = {
    "plain": Scheme(hides=False, opens="floats"),
    "modular": Scheme(hides=False, opens="grid"),
    "bfv": Scheme(hides=True, opens="grid"),
    "ckks": Scheme(hides=True, opens="approximate"),
    "one-time": Scheme(hides=True, opens="grid", sums_alone=True),
}
