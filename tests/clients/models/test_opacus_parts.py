"""Opacus' hooks come without its engine, and its engine still comes to whoever asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOOKS_ALONE = """
import sys
from clients.models.opacus_parts import GradSampleModule
assert "opacus.privacy_engine" not in sys.modules
assert "torch.distributed.fsdp" not in sys.modules
import torch
hooked = GradSampleModule(torch.nn.Linear(2, 2), loss_reduction="sum")
hooked(torch.ones(3, 2)).sum().backward()
assert [len(one.grad_sample) for one in hooked.parameters()] == [3, 3]
"""
CONVOLUTION = """
import torch
from clients.learning.per_sample import PerSample
net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))
found = PerSample(net).gradients(torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 1]))
assert [len(one) for one in found] == [3, 3, 3, 3]
assert "opacus.privacy_engine" not in sys.modules
"""
OPACUS_ALONE = """
import torch
from clients.models import opacus_parts
assert "torch.distributed.fsdp" not in sys.modules
assert not hasattr(torch.distributed, "no_such_name")
from opacus.grad_sample import GradSampleModule
hooked = GradSampleModule(torch.nn.Conv2d(1, 2, 3), loss_reduction="sum")
hooked(torch.ones(3, 1, 4, 4)).sum().backward()
assert [len(one.grad_sample) for one in hooked.parameters()] == [3, 3]
"""
ENGINE = """
import opacus
assert not hasattr(opacus, "__wrapped__") and "opacus.privacy_engine" not in sys.modules
from opacus import PrivacyEngine
assert opacus.GradSampleModule is GradSampleModule and opacus.__version__
assert PrivacyEngine is sys.modules["opacus.privacy_engine"].PrivacyEngine
assert not hasattr(opacus, "no_such_name")
"""
BEFORE = """
import opacus
engine = opacus.PrivacyEngine
from clients.models import opacus_parts
assert opacus.PrivacyEngine is engine and sys.modules["opacus"] is opacus
"""
BROKEN = """
import pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "half").mkdir()
(folder / "half" / "__init__.py").write_text("raise OSError('no disk')")
(folder / "half" / "part.py").write_text("value = 3")
sys.path.insert(0, str(folder))
from clients.models.opacus_parts import defer
defer("half"); defer("not_installed")
from half.part import value
for _ in range(2):
    try:
        import half
        half.whole
    except OSError as error:
        assert "no disk" in str(error)
    else:
        raise AssertionError
"""


@pytest.mark.parametrize(
    "code",
    [
        HOOKS_ALONE + ENGINE,
        "import sys\n" + CONVOLUTION,
        "import sys\n" + OPACUS_ALONE,
        "import sys\n" + BEFORE,
        "import sys\n" + BROKEN,
    ],
    ids=["asked later", "convolution", "by others", "asked before", "broken"],
)
def test_a_package_runs_when_something_is_asked_of_it(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], check=True)
