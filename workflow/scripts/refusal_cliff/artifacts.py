"""Read and write the files that stages hand on: tables (Parquet) and tensors (safetensors), each with a JSON sidecar.

Outputs appear whole or not at all: everything is written beside its final name and moved there when complete. They are
read only as they were written: a sidecar has the SHA-256 of its artifact, so whatever a file lost or gained since is
found before a number is made of it.
"""

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.hashes import file_sha256

SIDECAR_KEYS = frozenset({"artifact", "sha256", "counts", "settings", "settings_hash", "versions"})
NOT_MEASURABLE = "not_measurable"
"""Setting of an artifact that holds nothing, or not all: why what it is of could not be measured."""
RECORDED_PACKAGES = ("snakemake", "torch", "transformers", "peft", "trl", "datasets", "pandas", "scikit-learn", "scipy")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a hidden path in the folder of `path`; move it to `path` when the block ends without an error.

    The hidden name is always the same: what a killed job left there is overwritten when it is run again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft{path.suffix}")
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder beside `path` that takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield draft
        draft.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def settings_hash(settings: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `settings` as canonical JSON."""
    text = json.dumps(settings, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sidecar_path(path: str | Path) -> Path:
    """The JSON file that describes the artifact at `path`: same folder, same stem."""
    return Path(path).with_suffix(".json")


def write_json(value: Any, path: str | Path) -> None:
    with whole_file(path) as draft:
        draft.write_text(json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path, remedy: str = "") -> Any:
    """Read a JSON file.

    Args:
        remedy: what to do about a damaged one, if it is none of the workflow's own.

    Raises:
        UserError: it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged, it is no JSON ({error}); {remedy or rebuild(path)}") from None


def read_record(path: str | Path, keys: Set[str]) -> dict[str, Any]:
    """Read a JSON object that has these keys and no others.

    Raises:
        UserError: it is not JSON, lacks a key or has one that nothing reads.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise UserError(f"{path}: damaged, it has no keys; {rebuild(path)}")
    wrong = [f"lacks {key!r}" for key in sorted(keys - record.keys())]
    wrong += [f"has an unknown key {key!r}" for key in sorted(record.keys() - keys)]
    if wrong:
        raise UserError(f"{path}: {', '.join(wrong)}; {rebuild(path)}")
    return record


def rebuild(path: str | Path) -> str:
    """What to do about a file of the workflow's own that is not as it was written."""
    return f"write it again: `snakemake --cores 1 --force {path}`, followed by the options of this run"


def write_sidecar(path: str | Path, settings: Mapping[str, Any], **counts: Any) -> None:
    """Describe the artifact at `path`: the settings that made it, their hash, package versions and counts."""
    described = {
        "artifact": Path(path).name,
        "sha256": file_sha256(path),
        "counts": counts,
        "settings": settings,
        "settings_hash": settings_hash(settings),
        "versions": package_versions(),
    }
    write_json(described, sidecar_path(path))


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings that the sidecar of the artifact at `path` tells.

    Raises:
        UserError: the sidecar is damaged.
    """
    return read_record(sidecar_path(path), SIDECAR_KEYS)["settings"]


def check_artifact(path: str | Path, output: str | Path | None = None) -> None:
    """Check that the file at `path` is the one that its sidecar describes.

    Args:
        output: the output of a rule that `path` belongs to, if it is none itself.

    This is what finds a table with fewer rows, a truncated or empty file, a pointer in place of a file, and a file that
    was saved by another program. Its inputs are not hashed into the sidecar: Snakemake knows of each file what it was
    made from and makes it again; whoever tells it not to (`--touch`, `--rerun-triggers`) is not overruled here.

    Raises:
        UserError: it is another one, or has no sidecar.
    """
    path, sidecar = Path(path), sidecar_path(path)
    if not sidecar.is_file():
        raise UserError(f"{path}: its description {sidecar} is missing; {rebuild(output or path)}")
    described = read_record(sidecar, SIDECAR_KEYS)
    if described["artifact"] != path.name or described["sha256"] != file_sha256(path):
        counts = ", ".join(f"{name}: {count}" for name, count in described["counts"].items())
        raise UserError(
            f"{path}: damaged or changed since it was written ({sidecar} says {counts}); {rebuild(output or path)}"
        )


def write_table(table: pd.DataFrame, path: str | Path, settings: Mapping[str, Any], **keys: str) -> None:
    """Write `table` as Parquet, with its sidecar.

    Args:
        keys: what all its rows are of, e.g. model and variant: columns in front of the others, so that tables of
            several models can be read as one.
    """
    for place, (key, value) in enumerate(keys.items()):
        table.insert(place, key, value)
    with whole_file(path) as draft:
        table.to_parquet(draft, index=False)
    write_sidecar(path, settings, rows=len(table), columns=table.columns.tolist())


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a table that people read: `tables.write_csv` wrote it, and no spreadsheet has saved it since.

    Raises:
        UserError: it is not as it was written.
    """
    check_artifact(path)
    return pd.read_csv(path)


def read_table(path: str | Path, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a Parquet table that must have `columns`.

    Raises:
        UserError: it is not as it was written, or a column is missing.
    """
    check_artifact(path)
    table = pd.read_parquet(path)
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; {rebuild(path)}")
    return table


def read_tables(paths: Iterable[str | Path], columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Several Parquet tables of one kind as one, each of which must have `columns`; without paths only those, no rows.

    Raises:
        UserError: a table is not as it was written, or a column is missing.
    """
    tables = [read_table(path, columns) for path in paths]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))


def write_tensors(tensors: Mapping[str, Any], path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write torch tensors as safetensors, with their sidecar."""
    from safetensors.torch import save_file

    with whole_file(path) as draft:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
    write_sidecar(path, settings, shapes={name: list(tensor.shape) for name, tensor in tensors.items()})


def write_arrays(arrays: Mapping[str, Any], path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write NumPy arrays as safetensors, with their sidecar: for jobs without torch."""
    import numpy as np
    from safetensors.numpy import save_file

    with whole_file(path) as draft:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, draft)
    write_sidecar(path, settings, shapes={name: list(array.shape) for name, array in arrays.items()})


def read_arrays(path: str | Path, output: str | Path | None = None) -> dict[str, Any]:
    """Read every tensor of a safetensors file as a NumPy array: for jobs without torch.

    Args:
        output: see `check_artifact`.

    Raises:
        UserError: it is not as it was written.
    """
    from safetensors.numpy import load_file

    check_artifact(path, output)
    return load_file(path)


def open_dump(path: str | Path, name: str, rows: pd.DataFrame) -> "LazyTensor":
    """A tensor of a safetensors file, read in parts, whose first axis is described by `rows`.

    Raises:
        UserError: the file is not as it was written, or has another number of rows.
    """
    check_artifact(path)
    tensor = LazyTensor(path, name)
    if tensor.shape[0] != len(rows):
        raise UserError(f"{path}: {tensor.shape[0]} rows, but {len(rows)} are described; {rebuild(path)}")
    return tensor


class LazyTensor:
    """A tensor of a safetensors file that is read in parts: `tensor[4:9, 0]` is a NumPy array.

    bfloat16, which NumPy does not have, comes as float32; only then torch is imported.
    """

    def __init__(self, path: str | Path, name: str):
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            found = file.get_slice(name)
            self.shape: tuple[int, ...] = tuple(found.get_shape())
            self._brain_float = found.get_dtype() == "BF16"
        self._slice = safe_open(path, framework="pt" if self._brain_float else "np").get_slice(name)

    def __getitem__(self, index: Any) -> Any:
        part = self._slice[index]
        return part.float().numpy() if self._brain_float else part
