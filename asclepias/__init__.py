"""Asclepias: hospitals train one model together while every patient keeps a stated guarantee.

All public names. A Flower app needs two of them::

    strategy = SecureFedAvg(patients=9000, target_epsilon=1.0)     # in the ServerApp
    app = private_client(Net, load_data)                           # the ClientApp

Sealing by itself, for any sum of vectors that nobody may see singly::

    >>> import numpy as np
    >>> from asclepias import Place, Quantiser, make_adder, make_keys, make_opener, make_sealer
    >>> from asclepias import plan_sealing
    >>> plan = plan_sealing(
    ...     values=2, hospitals=2, grid=Quantiser(step=0.25, bound=8.0), scheme="bfv"
    ... )
    >>> keys, place = make_keys(plan), Place(training="demo", round=1, attempt=1)
    >>> adder, nonces = make_adder(plan, keys.key_id), {}   # the server's: it cannot open
    >>> for name, vector in {"lyon": [1.0, -2.5], "turin": [3.0, 0.5]}.items():
    ...     sealed = make_sealer(plan, keys, name).seal(np.array(vector), place)
    ...     adder.add(sealed)
    ...     nonces[name] = sealed.nonce
    >>> make_opener(plan, keys).open(adder.total(), nonces, place).tolist()
    [4.0, -2.0]

Nothing else is imported until a name is used: a hospital never loads the server, nor the server
what computes on patients.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asclepias.version import read_version

if TYPE_CHECKING:
    from accounting.ledger import Ledger
    from accounting.observers import ObserverRow
    from asclepias.client import hospital_mod, private_client
    from asclepias.patients import Patients
    from asclepias.privacy import Audit, calibrate, epsilon, observers
    from asclepias.strategy import SecureFedAvg
    from crypto.planning import plan_sealing
    from crypto.plans import SealingPlan
    from crypto.roles import Place, Quantiser
    from crypto.schemes import make_adder, make_keys, make_opener, make_sealer

__version__ = read_version()

__all__ = [
    "Audit",
    "Ledger",
    "ObserverRow",
    "Patients",
    "Place",
    "Quantiser",
    "SealingPlan",
    "SecureFedAvg",
    "__version__",
    "calibrate",
    "epsilon",
    "hospital_mod",
    "make_adder",
    "make_keys",
    "make_opener",
    "make_sealer",
    "observers",
    "plan_sealing",
    "private_client",
]

#: Name -> the module that it is from.
_FROM = {
    "Audit": "asclepias.privacy",
    "Ledger": "accounting.ledger",
    "ObserverRow": "accounting.observers",
    "Patients": "asclepias.patients",
    "Place": "crypto.roles",
    "Quantiser": "crypto.roles",
    "SealingPlan": "crypto.plans",
    "SecureFedAvg": "asclepias.strategy",
    "calibrate": "asclepias.privacy",
    "epsilon": "asclepias.privacy",
    "hospital_mod": "asclepias.client",
    "make_adder": "crypto.schemes",
    "make_keys": "crypto.schemes",
    "make_opener": "crypto.schemes",
    "make_sealer": "crypto.schemes",
    "observers": "asclepias.privacy",
    "plan_sealing": "crypto.planning",
    "private_client": "asclepias.client",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _FROM:
        raise AttributeError(f"module 'asclepias' has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
