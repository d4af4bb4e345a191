"""Take pinned snapshots from the Hugging Face hub, with messages that say what to do when that fails."""

from pathlib import Path

from refusal_cliff.errors import UserError

DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
"""What a model's folder has beside weights."""


def take_snapshot(location: str, repo_type: str, revision: str, where: str, patterns: list[str] | None = None) -> Path:
    """Folder of a repository's files at one commit, whose name is the commit that `revision` stands for.

    What the local cache (`HF_HOME`) already holds is not downloaded again, so a machine without network works from it.

    Args:
        repo_type: `model` or `dataset`.
        where: how error messages name the row of the sheet.
        patterns: files to take; all of them by default.

    Raises:
        UserError: no network, a gated repository, or no such repository or revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

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
    except OSError as error:
        raise UserError(
            f"{where} cannot be reached ({type(error).__name__}); run `hf download --repo-type {repo_type} {location}` "
            "where there is network and set HF_HOME to that cache here, or use a local copy (column source)"
        ) from None
