"""Fail when an adapter imports more than `anykontext.adapting` and pure standard modules, or opens a file or a clock.

The rule is that of `anykontext.testing.purity`. The pure layers of anykontext itself have a list of what they
may not import.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from anykontext.testing.purity import IMPURE, adapter_files, imports_of, violations_of_an_adapter

PURE_LAYERS = ("model", "adapting", "engine", "routing")


def violations(root: Path) -> Iterator[str]:
    """One line for each import that breaks the rule."""
    for folder in sorted(path for path in (root / "providers").glob("*") if path.is_dir()):
        for path, line, what in violations_of_an_adapter(adapter_files(folder), own=folder.name):
            yield f"{path.relative_to(root)}:{line}: an adapter may not {what}"
    for layer in PURE_LAYERS:
        for path in sorted((root / "src/anykontext" / layer).rglob("*.py")):
            for line, module in imports_of(path):
                if module.split(".")[0] in IMPURE:
                    yield f"{path.relative_to(root)}:{line}: {layer}/ is pure and may not import {module}"


if __name__ == "__main__":
    found = list(violations(Path(__file__).resolve().parent.parent))
    print(*found, sep="\n") if found else print("purity: adapters and pure layers import nothing impure")
    sys.exit(bool(found))
