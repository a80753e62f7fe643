"""What the server believes of an error reply."""

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from clients.contract.faults import FLOWER_ERROR_CODE
from strategies.conversation import fault_code


def answered(code: int, reason: str | None) -> str:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 5
    asked = Message(RecordDict(), 1, "train")
    return fault_code(Message(Error(code, reason), reply_to=asked))


@pytest.mark.parametrize(
    "code", ["stale-place", "behind:12", "limit-refused:max-epsilon", "unreachable"]
)
def test_codes_of_the_closed_list_are_believed(code: str) -> None:
    assert answered(FLOWER_ERROR_CODE, code) == code


@pytest.mark.parametrize(
    "reason",
    [None, "", "patient-7", "behind", "behind:x", "could not read patient 7", "a" * 10_000],
)
def test_any_other_text_is_internal_and_goes_no_further(reason: str | None) -> None:
    assert answered(FLOWER_ERROR_CODE, reason) == "internal"
    assert answered(999, reason) == "internal"


def test_flowers_own_errors_have_our_word() -> None:
    assert answered(ErrorCode.NODE_UNAVAILABLE, "patient 7") == "unreachable"
    assert answered(ErrorCode.INVALID_FAB, "patient 7") == "app-refused"
