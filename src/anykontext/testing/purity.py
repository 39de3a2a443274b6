"""The rule of purity: an adapter imports `anykontext.adapting` and pure standard modules (design section 4).

Adapters are pure: no network, no clock, no randomness, no files. What an adapter may import is listed, so that a
module that nobody thought of is reported. `emulator` and `upload` modules are exempt.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

# What the pure layers of anykontext itself may not import.
IMPURE = frozenset(
    {
        *("asyncio", "concurrent", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
        *("secrets", "select", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time"),
    }
)
# What an adapter may import besides its own package and `anykontext.adapting`, and no other.
PURE = frozenset(
    {
        *("__future__", "abc", "base64", "binascii", "bisect", "calendar", "collections", "collections.abc"),
        *("contextlib", "copy", "dataclasses", "datetime", "decimal", "email.utils", "enum", "fractions", "functools"),
        *("hashlib", "hmac", "html", "http.HTTPStatus", "itertools", "json", "math", "numbers", "operator", "re"),
        *("string", "struct", "textwrap", "types", "typing", "unicodedata", "urllib.parse"),
    }
)
IMPURE_CALLS = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"})
CLOCK = frozenset({"now", "today", "utcnow"})  # of datetime and date
EXEMPT = ("emulator", "upload")


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree, wherever it stands; what is imported for types only does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in node.orelse:
                yield other
                yield from _nodes(other)
            continue
        yield node
        yield from _nodes(node)


def _parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that a tree imports, with its line."""
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with its line."""
    yield from imports(_parsed(path))


def allowed_to_an_adapter(module: str, own: str, names: tuple[str, ...] = ()) -> bool:
    """Whether an adapter module may import this: its own package, `anykontext.adapting`, pure standard modules.

    Args:
        module: The module's full name.
        own: The name of the adapter's package.
        names: What is taken from it by `from`; of some packages only a part is pure.
    """
    if module.split(".", maxsplit=1)[0] in {"", own} or module in {"anykontext.adapting", *PURE}:
        return True
    return bool(names) and all(f"{module}.{name}" in PURE for name in names)


def impurities(tree: ast.AST, own: str) -> Iterator[tuple[int, str]]:
    """What an adapter's module does that it may not, with its line: `import time`, `call open`."""
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            yield from ((node.lineno, f"import {one}") for one in modules if not allowed_to_an_adapter(one, own))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = tuple(alias.name for alias in node.names)
            if not allowed_to_an_adapter(node.module or "", own, names):
                yield node.lineno, f"import {node.module}"
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in IMPURE_CALLS:
                yield node.lineno, f"call {called.id}"
            elif isinstance(called, ast.Attribute) and called.attr in CLOCK:
                yield node.lineno, f"call {ast.unparse(called)}"


def adapter_files(folder: Path) -> list[Path]:
    """The modules of an adapter's package that must be pure."""
    found = sorted(folder.rglob("*.py"))
    return [
        path for path in found if not {part.removesuffix(".py") for part in path.relative_to(folder).parts} & {*EXEMPT}
    ]


def violations_of_an_adapter(files: list[Path], own: str) -> Iterator[tuple[Path, int, str]]:
    """Each file, its line, and what an adapter may not do there, such as `import time` or `call open`.

    Args:
        files: Its modules.
        own: The name of its package.
    """
    for path in files:
        yield from ((path, line, what) for line, what in impurities(_parsed(path), own))
