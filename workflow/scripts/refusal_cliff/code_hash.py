"""A hash of what the package modules that a script uses mean, so that editing one reruns its jobs, and only those."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_hash(script: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of every package module that a script imports, directly or not.

    Comments, docstrings and layout do not count: rewording an explanation reruns nothing.

    Args:
        script: file name without suffix, e.g. `generate_traces`. Snakemake watches the script itself.
    """
    found: set[Path] = set()
    waiting = [PACKAGE.parent / f"{script}.py"]
    while waiting:
        new = set(_imports(waiting.pop())) - found
        found |= new
        waiting += new
    meanings = "\n".join(f"{path.relative_to(PACKAGE)} {_meaning(path)}" for path in sorted(found))
    return hashlib.sha256(meanings.encode()).hexdigest()[:16]


@cache
def _meaning(path: Path) -> str:
    """The syntax tree of a module as text, without positions, comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A text that stands alone documents what is above it, in a module or class also an attribute.
            node.body = [part for part in body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imports(path: Path) -> frozenset[Path]:
    """The package modules that a file imports at any depth, except for the type checker alone."""
    return frozenset(
        module
        for node in _statements(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _names(node)
        if name.split(".")[0] == PACKAGE.name and (module := _module(name))
    )


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node` that can run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _statements(child)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names that may be modules: in `from a import b` both a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def _module(name: str) -> Path | None:
    """The file of a dotted module name in the package, if it is one."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
