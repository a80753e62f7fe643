"""What the hospitals of one process share in one training: the replica and what it opened.

All of it can be rebuilt from a snapshot and the sums since, so a process may die at any time. In a
simulation a process answers for many hospitals and opens each sum once; at a real hospital it
answers for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from accounting.vocabulary import EXCHANGES
from clients.contract.binding import UNBOUND
from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.contract.terms import agree_terms
from clients.learning.cuts import cut_model, values_of_messages
from clients.learning.replica import Replica
from clients.learning.split_ends import Ends
from clients.learning.sum_exchange import make_exchange
from clients.models import build_model, prepare
from clients.site.memory import keep_freed_memory
from crypto.roles import Place, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_opener

if TYPE_CHECKING:
    from clients.contract.messages import OpenedRound
    from clients.contract.phases import Phases
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data import Cohort
    from crypto.keys import Keys

#: Length of a digest in hexadecimal digits.
_DIGEST = 64


class Session:
    """What the hospitals of one process share in one training; all of it can be rebuilt."""

    def __init__(
        self, settings: Settings, terms: Terms, module: torch.nn.Module, ends: Ends | None = None
    ) -> None:
        torch.set_num_threads(settings.run.threads)
        keep_freed_memory()
        self.settings = settings
        self.terms = terms
        #: The parts of a cut model that are at home; None where the model is whole.
        self.ends = ends
        self.replica = Replica(module, settings)
        kind = EXCHANGES[settings.exchange.name]
        if kind.sums:
            self.exchange = make_exchange(settings, terms)
        #: Where a model begins that nobody has trained yet; public.
        self.initial = self.replica.vector() if kind.travels else None
        #: What was opened for the replica's last round: another sum for it is refused.
        self.opened = ""
        self._last: tuple[int, OpenedRound] | None = None

    def to_bytes(self) -> bytes:
        """Serialise the replica and what was opened for its last round."""
        return self.opened.encode().ljust(_DIGEST) + self.replica.to_bytes()

    def restore(self, data: bytes) -> None:
        """Take over what :meth:`to_bytes` wrote in an earlier process of the same hospital."""
        self.replica.restore(data[_DIGEST:])
        self.opened = data[:_DIGEST].decode().strip()
        self._last = None

    def open_rounds(
        self,
        closed: Mapping[int, OpenedRound],
        keys: Keys,
        public_keys: Mapping[str, bytes],
        phases: Phases,
    ) -> None:
        """Open the sums that the replica lacks, in order, and step on each."""
        for number in sorted(closed):
            self._open(number, closed[number], keys, public_keys, phases)

    def _open(
        self,
        number: int,
        closed: OpenedRound,
        keys: Keys,
        public_keys: Mapping[str, bytes],
        phases: Phases,
    ) -> None:
        if number < self.replica.round or (number, closed) == self._last:
            return  # in a simulation, most hospitals of a process come after one that has opened it
        with one_code_for_openings():
            roster = Roster.from_bytes(closed.roster)
        opened = roster.digest(closed.total)
        if number == self.replica.round and self.opened not in ("", opened):
            raise Fault(Code.OPENING_REFUSED, f"round {number} came with a second sum or roster")
        if number <= self.replica.round:
            return
        if number > self.replica.round + 1:
            detail = f"at round {self.replica.round}, asked to open {number}"
            raise Fault(Code.BEHIND, detail, parameter=self.replica.round)
        with phases.measure("open"), one_code_for_openings():
            place = Place(training=self.terms.training, round=number, attempt=roster.place.attempt)
            roster.verify(
                public_keys,
                place,
                least=self.terms.noise.min_contributions,
                parameter_id=self.terms.sealing.parameter_id,
                bind=UNBOUND,
                previous=self.replica.digest,
            )
            opener = make_opener(self.terms.sealing, keys)
            total = opener.open(Sealed(payload=closed.total), roster.nonces, place)
        with phases.measure("step"):
            self.exchange.apply(self.replica, total, opened)
        self.opened = opened
        self._last = (number, closed)


def make_session(
    settings: Settings, cohort: Cohort, training: str, noise_multiplier: float
) -> Session:
    """Return the session of a training that begins: its terms, its initial model."""
    module = build_model(settings, cohort.info, settings.public_seed)
    largest = settings.data.largest_hospital or max(cohort.patients_by_hospital.values())
    ends, values = None, 0
    if settings.exchange.name == "layers":
        parts = cut_model(settings, module)
        ends = Ends(parts, module)
        shape = prepare(settings, cohort.info, cohort.hospital(cohort.names[0])).inputs.shape
        values = values_of_messages(settings, parts, shape[1:], largest)
        for parameter in parts.away:
            parameter.requires_grad_(False)
    terms = agree_terms(
        settings,
        training=training,
        dimensions=sum(p.numel() for p in module.parameters() if p.requires_grad),
        patients=settings.data.patients or cohort.patients,
        largest_hospital=largest,
        noise_multiplier=noise_multiplier,
        message_values=values,
    )
    return Session(settings, terms, module, ends)
