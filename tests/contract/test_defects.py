"""The defects that `scripts/defects.py` puts into adapters still fit the code; that they are caught is its own run."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("defects", ROOT / "scripts/defects.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "defects", module)
    spec.loader.exec_module(module)
    return module


def test_every_defect_stands_once_in_the_code_that_it_is_put_into(defects: ModuleType) -> None:
    found = {
        (one.adapter, one.name): (ROOT / f"providers/anykontext_{one.adapter}/{one.file}").read_text().count(one.old)
        for one in defects.DEFECTS
    }

    assert set(found.values()) == {1}, found
    assert {"bfl", "fal", "kie", "together"} == {adapter for adapter, _ in found}
    assert len(found) >= 10
