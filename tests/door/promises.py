"""What holds of three hospitals whatever a hostile server does, and after it.

The first promises are about what left: it was paid for, once a place, of one chain. The last is
about what is left: an honest server that takes over ends the training where it can still be ended.
"""

from __future__ import annotations

from hypothesis.stateful import (
    invariant,
)

from accounting.ledger import event_of
from accounting.renyi_filter import RenyiFilter
from clients.contract.faults import read_code
from tests.door.honest_end import end_honestly
from tests.door.hostile_server import EPSILON, NAMES, ROUNDS, SPARE, Moves


class HostileServer(Moves):
    """Moves, and what is checked after each."""

    #: How often an honest server could take over.
    taken_over = 0

    def teardown(self) -> None:
        try:
            if hasattr(self, "seen"):
                type(self).taken_over += end_honestly(self)
        finally:
            super().teardown()

    @invariant()
    def what_left_was_paid_for(self) -> None:
        for name, seen in getattr(self, "seen", {}).items():
            self.count(name)
            left = sum(len(payloads) for payloads in seen.payloads.values())
            assert left <= sum(uses for _, uses in seen.paid), name

    @invariant()
    def a_total_is_opened_after_a_book_named_it(self) -> None:
        for name in getattr(self, "seen", {}):
            self.count(name)
        assert getattr(self, "opened_totals", set()) <= getattr(self, "committed", set())

    @invariant()
    def a_place_has_one_payload(self) -> None:
        for name, seen in getattr(self, "seen", {}).items():
            assert all(place >= (1, 1) and place[1] >= 1 for place in seen.payloads)
            if not seen.restored:
                assert all(len(found) == 1 for found in seen.payloads.values()), name
                assert len(seen.payloads) <= ROUNDS + SPARE

    @invariant()
    def the_account_is_within_the_limit(self) -> None:
        for name in getattr(self, "seen", {}):
            events = [event_of(line) for line in self.count(name) if line.kind == "spend"]
            if events:
                assert RenyiFilter.planned(1e-4, EPSILON).epsilon(events) <= EPSILON

    @invariant()
    def an_id_has_one_bind_and_a_round_one_total(self) -> None:
        for name, seen in getattr(self, "seen", {}).items():
            found = [line for line in self.count(name) if line.training == self.play.training]
            assert len({line.fields["terms"] for line in found if line.kind == "bind"}) <= 1
            for line in found:
                if line.kind == "close" and not seen.restored:
                    key = (name, line.whole("round"))
                    self.opened.setdefault(key, set()).add(line.text("chain"))
            assert all(len(chains) == 1 for chains in self.opened.values())

    @invariant()
    def released_models_are_of_one_chain(self) -> None:
        if not any(seen.restored for seen in getattr(self, "seen", {}).values()):
            assert all(len(found) == 1 for found in getattr(self, "models", {}).values())

    @invariant()
    def what_is_said_is_on_the_list_and_nothing_is_left_outside(self) -> None:
        if not hasattr(self, "sites"):
            return
        assert all(read_code(code) is not None for code in self.codes), self.codes
        assert "internal" not in self.codes
        assert all(len(state) == 0 for state in self.sites.states)
        for name in NAMES:
            site = self.sites.consortium.site(name)
            assert {p.name for p in site.iterdir()} <= {
                "site.toml",
                "ca.pem",
                "node.pub",
                "private",
            }
            assert all(not p.stat().st_mode & 0o022 for p in (site / "private").iterdir())

    @invariant()
    def a_book_only_grows(self) -> None:
        for name, seen in getattr(self, "seen", {}).items():
            now = self.book_of(name)
            assert now.startswith(seen.book), name
            seen.book = now
