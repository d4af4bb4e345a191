"""Take pinned snapshots from the Hugging Face hub, with messages that say what to do when that fails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusal_cliff.errors import PassingError, UserError

WEIGHTS = ["*.safetensors"]
DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
"""What a model's folder has beside weights."""


def take_model(row: Mapping[str, Any], weights: bool = True) -> Path:
    """Folder of a model: safetensors and what belongs to them, never pickles.

    Args:
        row: of the model sheet: model, location, revision, trust_remote_code.
        weights: False leaves them where they are.

    Raises:
        UserError, PassingError: as `take_snapshot`.
    """
    patterns = DESCRIPTION + (WEIGHTS if weights else []) + (["*.py"] if row["trust_remote_code"] else [])
    where = f"model {row['model']!r}: {row['location']}"
    return take_snapshot(row["location"], "model", row["revision"], where, patterns)


def take_snapshot(location: str, repo_type: str, revision: str, where: str, patterns: list[str] | None = None) -> Path:
    """Folder of a repository's files at one commit, whose name is the commit that `revision` stands for.

    What the local cache (`HF_HOME`) already holds is not downloaded again, so a machine without network works from it.

    Args:
        repo_type: `model` or `dataset`.
        where: how error messages name the row of the sheet.
        patterns: files to take; all of them by default.

    Raises:
        UserError: a gated repository, no such repository or revision, a token that is not valid, or an answer that is
            not the hub's.
        PassingError: no network, or a hub that is down.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{'datasets/' if repo_type == 'dataset' else ''}{location}"
    try:
        return Path(snapshot_download(location, repo_type=repo_type, revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        raise UserError(
            f"{where} is gated; accept its conditions at {page}, then run `hf auth login` or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{where} has no revision {revision!r}; use main, or a commit of its page") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{where} is not on the hub, or not open to you; check column location, or run `hf auth login`"
        ) from None
    except HFValidationError as error:
        raise UserError(f"{where}: {error}; write owner/name in column location") from None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: what answers at HF_ENDPOINT is not the hub ({type(error).__name__}); a proxy or a login page "
            "may stand between: unset HF_ENDPOINT, or ask who runs the network"
        ) from None
    except OSError as error:
        if _status(error) in (401, 403):
            raise UserError(
                f"{where}: the hub refuses the token (HTTP {_status(error)}); run `hf auth login`, or set HF_TOKEN to "
                "one that is valid"
            ) from None
        raise PassingError(
            f"{where} cannot be reached ({type(error).__name__}); run `hf download --repo-type {repo_type} {location}` "
            "where there is network and set HF_HOME to that cache here, or use a local copy (column source)"
        ) from None


def _status(error: BaseException | None) -> int | None:
    """The HTTP status at the bottom of an error, which the client may wrap in one of its own."""
    while error is not None:
        if response := getattr(error, "response", None):
            return response.status_code
        error = error.__cause__
    return None
