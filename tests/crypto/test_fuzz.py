import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: How many hostile inputs are tried: a sample, and all.
CASES = [1_000, pytest.param(10_000, marks=pytest.mark.exhaustive)]


@pytest.fixture(name="report", scope="module", params=CASES)
def run_corpus(request):
    """The corpus runs in a process of its own, so that a crash is seen and not suffered."""
    child = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fuzz_corpus.py")), str(request.param), "7"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.returncode == 0, child.stderr[-2000:]
    report = json.loads(child.stdout)
    assert report["cases"] >= request.param
    return report


def test_thousands_of_hostile_inputs_crash_nothing(report):
    assert report["unexpected"] == []


def test_no_hostile_input_is_silently_accepted(report):
    assert report["silent"] == []
    # Only flips that drown in the encryption noise may pass, and they change nothing.
    assert report["absorbed"] < 0.1 * report["cases"]


def test_every_kind_of_refusal_is_exercised(report):
    expected = {
        "malformed-frame",
        "other-scheme",
        "other-parameters",
        "other-key",
        "contribution-count",
        "tag-mismatch",
        "bad-signature",
        "bad-header",
        "envelope",
        "ceremony",
        "keys",
        "capacity",
    }
    assert expected <= set(report["refused"])


def test_the_corpus_holds_bytes_that_crash_tenseal_itself():
    """The negative control: without our checks, the same bytes end a process."""
    program = (
        "import sys, tenseal; sys.path.insert(0, 'tests/crypto'); import fuzz_corpus\n"
        "context = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 40961, [60, 49])\n"
        "hostile = fuzz_corpus.tenseal_message([4096, 4096], [])\n"
        "vector = tenseal.bfv_vector_from(context, hostile)\n"
        "tenseal.bfv_vector(context, [1] * 8192) + vector\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.returncode < 0
