"""A content hash of package modules, so that editing one reruns the jobs that use it, and only those."""

import hashlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parent
IMPORT = re.compile(r"^\s*from refusal_cliff\.([\w.]+) import", re.MULTILINE)


def code_hash(*modules: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `modules` and of every package module they import.

    Args:
        modules: names inside the package, e.g. `probes` or `organisms.builder`.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(_source(name).read_bytes())
    return digest.hexdigest()[:16]


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += IMPORT.findall(_source(name).read_text(encoding="utf-8"))
    return found


def _source(name: str) -> Path:
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
