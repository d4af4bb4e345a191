"""A content hash of the package modules that a script uses, so that editing one reruns its jobs, and only those."""

import hashlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parent
IMPORT = re.compile(r"^\s*from refusal_cliff\.([\w.]+) import", re.MULTILINE)


def code_hash(script: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of every package module that a script imports, directly or not.

    Args:
        script: file name without suffix, e.g. `generate_traces`. Snakemake watches the script itself.
    """
    found: set[Path] = set()
    waiting = [PACKAGE.parent / f"{script}.py"]
    while waiting:
        for name in IMPORT.findall(waiting.pop().read_text(encoding="utf-8")):
            module = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
            if module not in found:
                found.add(module)
                waiting.append(module)
    digest = hashlib.sha256()
    for module in sorted(found):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]
