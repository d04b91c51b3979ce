"""Model folders from the hub: weights, settings and tokenizer, never a pickle and never code."""

from __future__ import annotations

from pathlib import Path

from evaluation.errors import AccessMissing, ModelUnavailable

FILES = ("*.json", "*.safetensors", "*.model", "*.jinja")


def fetch_model(name: str, token: str | None = None) -> Path:
    """The folder of the model ORG/NAME, from the hub or its cache. Without `token`, HF_TOKEN counts.

    Raises AccessMissing for a gated model, ModelUnavailable when there is none or the hub cannot be reached.
    """
    import httpx2  # the hub client's own library; a dead proxy raises its error as it is
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, token=token, allow_patterns=list(FILES)))
    except GatedRepoError as error:
        raise AccessMissing(
            f"hub:{name} is gated; request access on https://huggingface.co/{name} and put HF_TOKEN in .env."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(
            f"There is no model {name} on the hub that this token can see; check the name."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise ModelUnavailable(
            f"hub:{name} cannot be fetched ({type(error).__name__}); check the network, or use path:FOLDER."
        ) from error
