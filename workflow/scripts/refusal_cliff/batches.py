"""What a long job has finished, kept beside its output until that is there: a job that was killed goes on.

Of a generation that are batches; what is kept of a training is in `resuming`.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusal_cliff.artifacts import package_versions, read_json, settings_hash, write_json
from refusal_cliff.errors import UserError


@dataclass(frozen=True)
class Batches:
    """Finished batches in a folder, one file each; without a folder nothing is kept."""

    folder: Path | None

    def read(self, number: int) -> Any:
        """What batch `number` gave, or `None` if it is not finished."""
        if self.folder is None or not self._path(number).is_file():
            return None
        try:
            return read_json(self._path(number))
        except UserError:
            return None  # cut off by a power failure: it is computed again

    def write(self, number: int, result: Any) -> None:
        """Keep what a batch gave, as JSON."""
        if self.folder is not None:
            write_json(result, self._path(number))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.json"


KEEP_NONE = Batches(None)


@contextmanager
def kept_folder(
    output: str | Path, what: str, settings: Mapping[str, Any], inputs: Iterable[str | Path]
) -> Iterator[Path]:
    """A place beside the `output` of a job for what outlives a kill: in a hidden folder, gone when the block ends well.

    What was made with other settings, packages or inputs is thrown away. Inputs count as the same if their files have
    the same sizes and times: weights take longer to hash than to load.

    Args:
        what: is kept: the end of the folder's name.
        settings: all that it depends on besides inputs, code included.
        inputs: files and folders.
    """
    output = Path(output)
    folder = output.with_name(f".{output.stem}_{what}")
    made_of = {"settings": settings, "versions": package_versions(), "inputs": list(map(_stamps, sorted(inputs)))}
    own = folder / settings_hash(made_of)
    for other in folder.glob("*"):
        if other != own:
            shutil.rmtree(other)
    yield own
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def kept_batches(output: str | Path, settings: Mapping[str, Any], inputs: Iterable[str | Path]) -> Iterator[Batches]:
    """Batches of the job that writes `output`, in a `kept_folder`."""
    with kept_folder(output, "batches", settings, inputs) as folder:
        yield Batches(folder)


def _stamps(path: str | Path) -> list[tuple[str, int, int]]:
    """Name, size and time of last change (ns) of the file at `path`, or of every file in that folder."""
    path = Path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
