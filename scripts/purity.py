"""Fail when an adapter imports more than `anykontext.adapting` and pure standard modules (design section 4).

Adapters are pure: no network, no clock, no randomness, no files. `emulator` and `upload` modules are exempt.
The pure layers of anykontext itself are held to the same standard library rule.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

IMPURE = frozenset(
    {
        *("asyncio", "concurrent", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
        *("secrets", "select", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time"),
    }
)
EXEMPT = ("emulator", "upload")
PURE_LAYERS = ("model", "adapting", "engine", "routing")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that a tree imports, wherever the statement stands, with its line; types only do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        yield from imports(node)


def allowed_to_an_adapter(module: str, own: str) -> bool:
    """Whether an adapter module may import this: its own package, `anykontext.adapting`, pure standard modules."""
    top = module.split(".", maxsplit=1)[0]
    if top in {"", own} or module == "anykontext.adapting":
        return True
    return top in sys.stdlib_module_names and top not in IMPURE


def violations(root: Path) -> Iterator[str]:
    """One line for each import that breaks the rule."""
    for path in sorted((root / "providers").rglob("*.py")):
        if any(part.removesuffix(".py") in EXEMPT for part in path.parts):
            continue
        for line, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if not allowed_to_an_adapter(module, own=path.relative_to(root / "providers").parts[0]):
                yield f"{path.relative_to(root)}:{line}: an adapter may not import {module}"
    for layer in PURE_LAYERS:
        for path in sorted((root / "src/anykontext" / layer).rglob("*.py")):
            for line, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
                if module.split(".")[0] in IMPURE:
                    yield f"{path.relative_to(root)}:{line}: {layer}/ is pure and may not import {module}"


if __name__ == "__main__":
    found = list(violations(Path(__file__).resolve().parent.parent))
    print(*found, sep="\n") if found else print("purity: adapters and pure layers import nothing impure")
    sys.exit(bool(found))
