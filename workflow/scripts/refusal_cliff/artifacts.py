"""Read and write the files that stages hand on: tables (Parquet) and tensors (safetensors), each with a JSON sidecar.

Outputs appear whole or not at all: everything is written beside its final name and moved there when complete.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from refusal_cliff.errors import UserError

RECORDED_PACKAGES = ("snakemake", "torch", "transformers", "peft", "trl", "datasets", "pandas", "scikit-learn", "scipy")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


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


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_sidecar(path: str | Path, settings: Mapping[str, Any], **counts: Any) -> None:
    """Describe the artifact at `path`: the settings that made it, their hash, package versions and counts."""
    described = {
        "artifact": Path(path).name,
        "counts": counts,
        "settings": settings,
        "settings_hash": settings_hash(settings),
        "versions": package_versions(),
    }
    write_json(described, sidecar_path(path))


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
    write_sidecar(path, settings, rows=len(table))


def read_table(path: str | Path, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a Parquet table that must have `columns`, and as many rows as its sidecar, if it has one, counts.

    Raises:
        UserError: a column is missing, or a row.
    """
    table = pd.read_parquet(path)
    described = sidecar_path(path)
    written = read_json(described)["counts"].get("rows") if described.is_file() else None
    if written is not None and written != len(table):
        raise UserError(
            f"{path}: {len(table)} rows, but {written} were written ({described.name}); delete the file and let the "
            "workflow write it again"
        )
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; delete the file and let the workflow write it again")
    return table


def read_tables(paths: Iterable[str | Path], columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Several Parquet tables of one kind as one, each of which must have `columns`; without paths only those, no rows.

    Raises:
        UserError: a column is missing.
    """
    tables = [read_table(path, columns) for path in paths]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))


def write_tensors(tensors: Mapping[str, Any], path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write torch tensors as safetensors, with their sidecar."""
    from safetensors.torch import save_file

    with whole_file(path) as draft:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
    write_sidecar(path, settings, shapes={name: list(tensor.shape) for name, tensor in tensors.items()})


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read every tensor of a safetensors file, on the CPU."""
    from safetensors.torch import load_file

    return load_file(path)


def write_arrays(arrays: Mapping[str, Any], path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write NumPy arrays as safetensors, with their sidecar: for jobs without torch."""
    import numpy as np
    from safetensors.numpy import save_file

    with whole_file(path) as draft:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, draft)
    write_sidecar(path, settings, shapes={name: list(array.shape) for name, array in arrays.items()})


def read_arrays(path: str | Path) -> dict[str, Any]:
    """Read every tensor of a safetensors file as a NumPy array: for jobs without torch."""
    from safetensors.numpy import load_file

    return load_file(path)


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
