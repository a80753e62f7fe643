import pytest

from clients.client_app import code_of
from clients.contract.faults import MEANINGS, Code, Fault, one_code_for_openings, read_code
from crypto import errors
from crypto.errors import SealingError, TagMismatchError

WITH_PARAMETER = {Code.BEHIND: 3, Code.SHARE_REFUSED: 2, Code.LIMIT_REFUSED: "max-epsilon"}
SEALING_ERRORS = [one for one in vars(errors).values() if isinstance(one, type)]


def test_the_list_of_codes_is_closed_and_each_is_explained():
    assert set(MEANINGS) == set(Code)
    assert len(Code) == 20
    for wrong in ("stale-round", "digest-differs", "tag-mismatch", "a text"):
        with pytest.raises(ValueError, match="not a valid Code"):
            Fault(wrong)


@pytest.mark.parametrize("code", list(Code))
def test_a_code_has_a_parameter_only_where_the_list_says_so(code):
    parameter = WITH_PARAMETER.get(code)
    fault = Fault(code, parameter=parameter)
    assert read_code(fault.code) is code
    assert fault.code == (code if parameter is None else f"{code}:{parameter}")
    with pytest.raises(ValueError, match="another form"):
        Fault(code, parameter=None if parameter is not None else 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "behind",
        "behind:",
        "behind:-1",
        "behind:01",
        "behind:12345678901",
        "behind:3:4",
        "behind:three",
        "behind:\u0663",
        "limit-refused",
        "limit-refused:",
        "limit-refused:0.7312",
        "limit-refused:max epsilon",
        "limit-refused:" + "a" * 60,
        "internal:3",
        "internal:",
        "Internal",
        "could not read the record of patient 7",
    ],
)
def test_what_is_not_on_the_list_is_no_code(text):
    assert read_code(text) is None


def test_a_fault_keeps_its_reason_out_of_its_text():
    fault = Fault(Code.INTERNAL, "patient 7")
    assert str(fault) == "internal"
    assert fault.detail == "patient 7"


def test_a_sum_is_refused_with_one_code_whatever_the_reason():
    codes = set()
    for kind in SEALING_ERRORS:
        with pytest.raises(Fault) as caught, one_code_for_openings():
            raise kind("why")
        codes.add(caught.value.code)
        assert caught.value.detail == f"{kind.code}: why"
    assert codes == {"opening-refused"}
    with pytest.raises(ZeroDivisionError), one_code_for_openings():
        1 / 0  # noqa: B018


@pytest.mark.parametrize("kind", SEALING_ERRORS)
def test_every_error_of_sealing_has_acode_of_the_list(kind):
    assert read_code(code_of(kind("why"))) is not None
    assert kind is SealingError or kind.code not in set(Code) or kind.code == "opening-refused"


def test_an_unexpected_error_is_internal():
    assert code_of(RuntimeError("patient 7")) == Code.INTERNAL
    assert code_of(TagMismatchError("why")) != Code.INTERNAL
