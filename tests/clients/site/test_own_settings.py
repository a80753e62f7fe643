"""What a run may ask of a real hospital is what the hospital's own file allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clients.contract.faults import Fault
from clients.contract.settings import Settings
from clients.site.own_settings import own_settings
from clients.site.site_file import SiteFileError, read_site_file

FILE = 'hospital = "lyon"\nany-app = true\ntrust-on-first-use = true\n[data]\nname = "digits"\n'


def written(folder: Path, more: str = "") -> Path:
    path = folder / "site.toml"
    path.write_text(FILE + more)
    return path


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that leaves a mark when it is imported."""
    (tmp_path / "planted_model.py").write_text("def build(info):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "planted_model"


def test_a_function_is_imported_only_from_the_hospitals_own_list(
    tmp_path: Path, planted: str
) -> None:
    name = f"{planted}:build"
    asked = Settings.from_config({"model.name": name, "data.name": f"{planted}:load"})
    for more in ("", '[allow]\nfunctions = ["planted_model:other"]\n'):
        with pytest.raises(Fault, match="settings-refused") as caught:
            own_settings(read_site_file(written(tmp_path, more)), asked)
        assert "planted_model:build" in caught.value.detail
        assert caught.value.detail in (tmp_path / "private" / "hospital.log").read_text()
    allowed = own_settings(
        read_site_file(written(tmp_path, f'[allow]\nfunctions = ["{name}"]\n')), asked
    )
    assert allowed.model.name == name
    assert allowed.data.name == "digits"  # the run's own word for data is never imported
    assert planted not in sys.modules


def test_a_pretrained_net_of_ones_own_is_imported_only_from_that_list(
    tmp_path: Path, planted: str
) -> None:
    asked = Settings.from_config({"model.name": f"pretrained:{planted}:build"})
    with pytest.raises(Fault, match="settings-refused"):
        own_settings(read_site_file(written(tmp_path)), asked)
    allowed = written(tmp_path, f'[allow]\nfunctions = ["{planted}:build"]\n')
    assert own_settings(read_site_file(allowed), asked).model.name == asked.model.name
    assert planted not in sys.modules


@pytest.mark.parametrize("name", ["mlp", "pretrained:efficientnet-lite0"])
def test_a_row_of_the_table_needs_no_permission(tmp_path: Path, name: str) -> None:
    file = read_site_file(written(tmp_path))
    assert own_settings(file, Settings.from_config({"model.name": name})).model.name == name


@pytest.mark.parametrize("value", ['["os"]', '["os.system"]', "[3]", '"a:b"', '["../a:b"]'])
def test_a_list_of_something_else_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(SiteFileError, match=r"\[allow\] functions"):
        read_site_file(written(tmp_path, f"[allow]\nfunctions = {value}\n"))
