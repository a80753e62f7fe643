"""A server that sends anything in any order gets no more than was paid for and signed for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from tests.door.planted_faults import (
    answered_anew,
    attempt_zero_accepted,
    limit_not_asked,
    named_after_it_opened,
    one_code_more,
    payment_forgotten,
    released_unconfirmed,
    stuck_after_a_failure,
    torn_line_cut,
)
from tests.door.promises import HostileServer

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def attack(examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        HostileServer,
        settings=settings(
            max_examples=examples,
            derandomize=True,
            stateful_step_count=20,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_a_hostile_server_gets_no_more_than_was_paid_and_signed_for() -> None:
    before = HostileServer.taken_over
    attack(10)
    # And what an honest server is promised was asked for, often enough to mean something.
    assert HostileServer.taken_over > before + 1


@pytest.mark.exhaustive
def test_a_hostile_server_gets_no_more_in_five_hundred_attempts() -> None:
    attack(500)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "plant",
    [
        payment_forgotten,
        named_after_it_opened,
        attempt_zero_accepted,
        one_code_more,
        stuck_after_a_failure,
        answered_anew,
        limit_not_asked,
        released_unconfirmed,
        torn_line_cut,
    ],
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        attack(500)  # as many as find nothing in the code as it is
