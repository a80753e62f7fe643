"""What the hospitals of one process share in one training: the replica and what it opened.

All of it can be rebuilt from a snapshot and the sums since, so a process may die at any time. In a
simulation a process answers for many hospitals and opens each sum once; at a real hospital it
answers for one. What each hospital has committed to and may release is in its own book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.vocabulary import EXCHANGES
from clients.contract.terms import agree_terms
from clients.learning.cuts import cut_model, values_of_messages
from clients.learning.device import CPU
from clients.learning.device_check import check_company, check_computes
from clients.learning.device_memory import records_at_once
from clients.learning.per_sample import FULL_RECORDS
from clients.learning.replica import Replica, state_from_bytes, state_to_bytes
from clients.learning.row_check import check_rows
from clients.learning.shapes import dimensions_of, shared_parameters
from clients.learning.split_ends import Ends
from clients.learning.sum_exchange import make_exchange
from clients.learning.task_loss import loss_of
from clients.models import build_model, input_shape, is_own_code
from clients.site.machine import Machine
from clients.site.memory import keep_freed_memory
from clients.site.proofs import Committed, check_committed
from clients.site.snapshots import state_tag
from clients.site.unsealing import SealedSum, unseal
from clients.site.verified import Verifier
from crypto.errors import RosterError, SealingError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from crypto.roles import Place
from crypto.rosters import Roster, next_chain

if TYPE_CHECKING:
    from clients.contract.messages import OpenedRound
    from clients.contract.phases import Phases
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data import Cohort, DatasetInfo
    from clients.data.cohort import Outline
    from clients.learning.processors import Processors
    from clients.site.membership import Membership
    from crypto.keys import Keys
    from crypto.seeds import Part

#: Copies of the state after a round that wait to be confirmed, of each kind.
_MOST_COPIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The state after a round, kept until a quorum has confirmed the sums that it is made of.

    Attributes:
        round: the last sum in it.
        chain: of all sums in it, hex.
        model: what would be released of it; empty where no release is due.
        state: what would be left as a snapshot; ``b""`` where none is due.
    """

    round: int
    chain: str
    model: dict[str, torch.Tensor]
    state: bytes


class Session:
    """What the hospitals of one process share in one training; all of it can be rebuilt.

    Attributes:
        settings: the run's.
        terms: as derived from them.
        ends: the parts of a cut model that are at home; None where the model is whole.
        replica: the model after the sums so far.
        initial: where a visiting model begins that nobody has trained yet; public.
        verifier: checks rosters, each once.
        signed: name -> the last round whose chain that hospital has signed, as rosters show it.
        suspects: holders whose answers did not fit the sum that was opened last.
        stayed: parts of the noise that could have gone from it, but whose seeds did not come.
    """

    def __init__(
        self,
        settings: Settings,
        terms: Terms,
        module: torch.nn.Module,
        info: DatasetInfo,
        ends: Ends | None = None,
        device: torch.device = CPU,
        processors: Processors | None = None,
    ) -> None:
        keep_freed_memory()
        self.settings = settings
        self.terms = terms
        self.ends = ends
        classes = len(info.classes)
        self.replica = Replica(
            module, settings, classes, device, loss_of(info), info.input_range, processors
        )
        kind = EXCHANGES[settings.exchange.name]
        if kind.sums:
            self.exchange = make_exchange(settings, terms, info.own)
        self.initial = self.replica.vector() if kind.travels else None
        self.verifier = Verifier(terms)
        self.signed: dict[str, int] = {}
        self.suspects: tuple[str, ...] = ()
        self.stayed: tuple[Part, ...] = ()
        self._info = info
        self._computes = False
        self._copies: list[Copy] = []
        #: Chains after the rounds that this process opened, or took over.
        self._chains: dict[int, str] = {0: ""}
        #: Round and chain, and the digest of the replica there.
        self._state: tuple[tuple[int, str], bytes] | None = None
        #: Confirmations that were verified last, and who signed them.
        self._confirmed: tuple[tuple[tuple[bytes, ...], int, str], frozenset[str]] | None = None

    @property
    def round(self) -> int:
        """The last sum that the replica stepped on."""
        return self.replica.round

    @property
    def chain(self) -> str:
        """Of all sums that the replica stepped on, hex."""
        return self.replica.digest

    def state(self, keys: Keys) -> str:
        """Return the tag of the replica as it is: equal at all that stepped on the same sums, hex.

        It is made once a round: of what was signed, only what has the same tag is a vote for what
        is released from here.
        """
        now = self.round, self.chain
        if self._state is None or self._state[0] != now:
            self._state = now, self.replica.state_digest()
        return state_tag(keys.group_key, self._state[1])

    def check_computes(self) -> None:
        """Compute on made-up records, once: a broken device must show before anything is paid.

        Raises:
            DeviceError: gradients cannot be computed here.
        """
        if self._computes or self.settings.exchange.loop == "app":
            return
        shape, classes = input_shape(self.settings, self._info), self._info.question.values or 2
        check_computes(self.ends.bottom if self.ends else self.replica.per_sample, shape, classes)
        model = self.replica.per_sample
        if not self.ends:
            l2_clip = self.terms.l2_clip
            model.chunk_records = records_at_once(model, shape, classes, l2_clip=l2_clip)
        if model.device == CPU:
            check_company(model.module, FULL_RECORDS if self.ends else model.chunk_records)
        self._computes = True

    def advance(
        self,
        committed: Committed,
        closed: OpenedRound,
        roster: Roster,
        member: Membership,
        phases: Phases | None = None,
    ) -> str:
        """Open a total that a hospital has committed to and step on it; returns the chain after it.

        Where another hospital of this process has opened the same total, nothing is done again.

        Raises:
            SealingError: it does not open, or this process has opened another one.
        """
        check_committed(committed)
        number = committed.round
        before = self._chains.get(number - 1)
        if before is None:
            raise RosterError(f"nothing is known here of the sums before round {number}")
        chain = next_chain(bytes.fromhex(before), bytes.fromhex(committed.opened)).hex()
        if number <= self.round:
            if self._chains.get(number) != chain:
                raise RosterError(f"this process has opened another sum of round {number}")
            return chain
        place = Place(training=self.terms.training, round=number, attempt=committed.attempt)
        with _measured(phases, "step"):
            state = self.state(member.keys)
        with _measured(phases, "open"):
            sealed = SealedSum.of(closed, roster)
            opened = unseal(sealed, self.terms, member.keys, place, member.public_keys)
        with _measured(phases, "step"):
            self.exchange.apply(self.replica, opened.values, chain)
            self.suspects, self.stayed = opened.suspects, opened.stayed
            self._chains[number] = chain
            for one in roster.headers:
                if one.header.state == state:
                    name = one.header.sender
                    self.signed[name] = max(self.signed.get(name, 0), number - 1)
            self._keep_copy()
        return chain

    def others(self, roster: Roster) -> list[str]:
        """Return who is in a sum that was stepped on and signed another state before it."""
        before = roster.place.round - 1
        return [name for name in roster.names if self.signed.get(name, -1) < before]

    def copy_to_release(self, last: int) -> Copy | None:
        """Return the newest copy to release once the sums up to ``last`` are confirmed."""
        return self._newest(last, lambda copy: bool(copy.model))

    def copy_to_leave(self, last: int) -> Copy | None:
        """Return the newest copy that may be left as a snapshot."""
        return self._newest(last, lambda copy: bool(copy.state))

    def confirmations(
        self, headers: tuple[bytes, ...], member: Membership, round: int, chain: str
    ) -> frozenset[str]:
        """Return who signed that the sums up to a round are the last, and holds this replica.

        Signatures are verified once for all of this process.
        """
        asked = (headers, round, chain)
        if self._confirmed is not None and self._confirmed[0] == asked:
            return self._confirmed[1]
        found, state = set(), self.state(member.keys)
        for data in headers:
            try:
                header = verify_header(
                    SignedHeader.from_bytes(data),
                    member.public_keys,
                    kind=HeaderKind.CONFIRM,
                    parameter_id=self.terms.sealing.parameter_id,
                    bind=member.bind,
                )
            except SealingError:
                continue
            said = (header.training, header.round, header.previous, header.state)
            if said == (self.terms.training, round, chain, state):
                found.add(header.sender)
        self._confirmed = (asked, frozenset(found))
        return self._confirmed[1]

    def load(self, state: bytes, *, round: int, chain: str) -> None:
        """Take over the state after a round from another hospital of the training.

        Raises:
            RosterError: the state is not the one that its header named.
        """
        try:
            self.replica.restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RosterError(f"a snapshot holds no state: {error}") from error
        self._state = None
        if (self.round, self.chain) != (round, chain):
            raise RosterError("a snapshot holds another state than its header says")
        self._chains[round] = chain
        self._copies.clear()

    def to_bytes(self) -> bytes:
        """Serialise all of it, for a later process of the same hospital."""
        return state_to_bytes(
            {
                "replica": _as_tensor(self.replica.to_bytes()),
                "signed": self.signed,
                "chains": self._chains,
                "copies": [
                    {
                        "round": c.round,
                        "chain": c.chain,
                        "model": c.model,
                        "state": _as_tensor(c.state),
                    }
                    for c in self._copies
                ],
            }
        )

    def restore(self, data: bytes, *, closed: int, chain: str) -> None:
        """Take over what :meth:`to_bytes` wrote in an earlier process of the same hospital.

        It is a cache: what is older than this session, or does not fit the book, is left alone.

        Args:
            data: what was written.
            closed: the last round that the hospital's book has closed.
            chain: of all sums up to it, hex.
        """
        state = state_from_bytes(data)
        chains = dict(state["chains"])
        last = max(chains)
        if not self.round < last <= closed or (last == closed and chains[last] != chain):
            return
        self.replica.restore(state["replica"].numpy().tobytes())
        self._state = None
        self.signed, self._chains = dict(state["signed"]), chains
        self._copies = [
            Copy(**{**kept, "state": kept["state"].numpy().tobytes()}) for kept in state["copies"]
        ]

    def _keep_copy(self) -> None:
        """Keep the state after this round if a release or a snapshot of it is due."""
        due = self.round % self.settings.training.release_every == 0
        keep = self.round % self.settings.run.snapshot_every == 0
        if not due and not keep:
            return
        model = {n: t.clone() for n, t in self.released().items()} if due else {}
        state = self.replica.to_bytes() if keep else b""
        copy = Copy(round=self.round, chain=self.chain, model=model, state=state)
        self._copies = [*self._copies[-(2 * _MOST_COPIES - 1) :], copy]

    def released(self) -> dict[str, torch.Tensor]:
        """Return the parameters that a release holds; those at the server are left out."""
        away = self.ends.away if self.ends else frozenset()
        return {n: tensor for n, tensor in self.replica.released().items() if n not in away}

    def _newest(self, last: int, wanted: Callable[[Copy], bool]) -> Copy | None:
        found = [copy for copy in self._copies if copy.round <= last and wanted(copy)]
        return found[-1] if found else None


def _as_tensor(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


@contextmanager
def _measured(phases: Phases | None, name: str) -> Iterator[None]:
    """Count the block's seconds where somebody counts."""
    if phases is None:
        yield
        return
    with phases.measure(name):
        yield


def make_session(
    settings: Settings,
    cohort: Cohort | Outline,
    training: str,
    noise_multiplier: float,
    machine: Machine | None = None,
) -> Session:
    """Return the session of a training that begins: its terms, its initial model.

    Args:
        settings: the run's.
        cohort: what is public about the records comes from it.
        training: the id.
        noise_multiplier: sigma.
        machine: what to compute on; None: as the run's settings say.

    Raises:
        NoSuchDevice: the device is not there.
        ModelError: the model is unknown, or cannot be trained privately.
    """
    machine = machine or Machine.of(settings)
    device = machine.take()
    module = build_model(settings, cohort.info, settings.public_seed)
    if is_own_code(settings.model.name) and settings.exchange.loop != "app":
        check_rows(module, cohort.info, input_shape(settings, cohort.info))
    largest = settings.data.largest_hospital or max(cohort.patients_by_hospital.values())
    ends, values = None, 0
    if settings.exchange.name == "layers":
        parts = cut_model(settings, module)
        shape = input_shape(settings, cohort.info)
        ends = Ends(parts, module, shape, device)
        values = values_of_messages(settings, parts, shape, largest)
        for parameter in parts.away:
            parameter.requires_grad_(False)
    terms = agree_terms(
        settings,
        training=training,
        dimensions=dimensions_of(shared_parameters(settings, module, len(cohort.info.classes))),
        patients=settings.data.patients or cohort.patients,
        largest_hospital=largest,
        noise_multiplier=noise_multiplier,
        message_values=values,
    )
    return Session(settings, terms, module, cohort.info, ends, device, machine.processors)
