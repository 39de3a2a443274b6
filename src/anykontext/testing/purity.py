"""The rule of purity: an adapter imports `anykontext.adapting` and pure standard modules (design section 4).

Adapters are pure: no network, no clock, no randomness, no files. `emulator` and `upload` modules are exempt.
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


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with its line."""
    yield from imports(ast.parse(path.read_text(encoding="utf-8")))


def allowed_to_an_adapter(module: str, own: str) -> bool:
    """Whether an adapter module may import this: its own package, `anykontext.adapting`, pure standard modules."""
    top = module.split(".", maxsplit=1)[0]
    if top in {"", own} or module == "anykontext.adapting":
        return True
    return top in sys.stdlib_module_names and top not in IMPURE


def adapter_files(folder: Path) -> list[Path]:
    """The modules of an adapter's package that must be pure."""
    found = sorted(folder.rglob("*.py"))
    return [
        path for path in found if not {part.removesuffix(".py") for part in path.relative_to(folder).parts} & {*EXEMPT}
    ]


def violations_of_an_adapter(files: list[Path], own: str) -> Iterator[tuple[Path, int, str]]:
    """Each file, line and module that an adapter may not import.

    Args:
        files: Its modules.
        own: The name of its package.
    """
    for path in files:
        yield from ((path, line, module) for line, module in imports_of(path) if not allowed_to_an_adapter(module, own))
