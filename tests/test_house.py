"""The project's own rules: packaging agrees with itself, and the scan of pure modules finds what it must."""

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
UNLISTED = ("ctypes", "importlib", "sqlite3", "urllib.request", "uuid", "zoneinfo", "builtins", "http.client")
IMPURE_CALLS = (
    "open('x')",
    "__import__('os')",
    "eval('1')",
    "exec('1')",
    "print(1)",
    "datetime.now(UTC)",
    "date.today()",
)
ADAPTERS = sorted(path.parent.name for path in (ROOT / "providers").glob("*/adapter.py"))


@pytest.fixture
def purity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("purity", ROOT / "scripts/purity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tree(root: Path, file: str, text: str) -> Path:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text, encoding="utf-8")
    return root


def test_every_adapter_is_packaged_and_registered() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    entry_points = PROJECT["project"]["entry-points"]["anykontext"]

    assert ["src/anykontext", *(f"providers/{name}" for name in ADAPTERS)] == packages
    assert ADAPTERS == sorted(entry_points.values())
    assert all(f"anykontext_{name}" == module for name, module in entry_points.items())


def test_every_adapter_brings_its_files() -> None:
    for name in ADAPTERS:
        files = {path.stem for path in (ROOT / "providers" / name).iterdir()}

        assert {"__init__", "adapter", "emulator", "prices", "README"} <= files, name


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("providers/anykontext_x/adapter.py", "import time\n"),
        ("providers/anykontext_x/adapter.py", "import httpx\n"),
        ("providers/anykontext_x/adapter.py", "from os import environ\n"),
        ("providers/anykontext_x/adapter.py", "def f():\n    import random\n"),
        ("providers/anykontext_x/adapter.py", "from anykontext.engine.flow import x\n"),
        ("providers/anykontext_x/adapter.py", "from anykontext_y.adapter import x\n"),
        *(("providers/anykontext_x/adapter.py", f"import {one}\n") for one in UNLISTED),
        *(("providers/anykontext_x/adapter.py", f"def f():\n    return {one}\n") for one in IMPURE_CALLS),
        ("providers/anykontext_x/adapter.py", "from http import client\n"),
        ("providers/anykontext_x/adapter.py", "from urllib import parse, request\n"),
        ("providers/anykontext_x/adapter.py", "if TYPE_CHECKING:\n    import os\nelse:\n    import os\n"),
        ("src/anykontext/engine/x.py", "import asyncio\n"),
        ("src/anykontext/model/x.py", "import socket\n"),
    ],
)
def test_an_impure_import_is_found(tmp_path: Path, purity: ModuleType, file: str, text: str) -> None:
    found = list(purity.violations(tree(tmp_path, file, text)))

    assert 1 == len(found)
    assert found[0].startswith(f"{file}:")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("providers/anykontext_x/adapter.py", "import re\nfrom anykontext.adapting import get\n"),
        ("providers/anykontext_x/adapter.py", "from anykontext_x.facts import FACTS\nfrom . import tables\n"),
        ("providers/anykontext_x/adapter.py", "from http import HTTPStatus\nfrom urllib import parse\n"),
        ("providers/anykontext_x/adapter.py", "from datetime import UTC, datetime\ndatetime(2026, 1, 1, tzinfo=UTC)\n"),
        ("providers/anykontext_x/adapter.py", "import re\nre.compile('x')\n"),
        ("providers/anykontext_x/adapter.py", "if TYPE_CHECKING:\n    import os\n"),
        ("providers/anykontext_x/emulator/service.py", "import asyncio, starlette\n"),
        ("providers/anykontext_x/upload.py", "import fal_client\n"),
        ("src/anykontext/model/x.py", "if TYPE_CHECKING:\n    from pathlib import Path\n"),
    ],
)
def test_a_pure_import_is_let_through(tmp_path: Path, purity: ModuleType, file: str, text: str) -> None:
    assert [] == list(purity.violations(tree(tmp_path, file, text)))
