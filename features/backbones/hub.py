"""Files of the hub: found where its own client keeps them, fetched by it, and without a network missed in seconds."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from features.errors import UserError

_SECONDS = 5.0  # a hub's client tries for most of a minute


def cached(repository: str, name: str) -> Path | None:
    """A file of a repository of the Hugging Face hub, if it is here."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return Path(path) if isinstance(path, str) else None


def fetch(repository: str, name: str) -> Path:
    """The same, downloaded if need be; UserError where the hub does not answer, or has no such file."""
    from huggingface_hub import constants, hf_hub_download

    if here := cached(repository, name):
        return here
    missing = (
        f"{name} of {repository} is not at hand; download it from {constants.ENDPOINT}/{repository} and give it with "
        f"--weights PATH, or have it in {constants.HF_HUB_CACHE}"
    )
    if constants.HF_HUB_OFFLINE or not _answers(f"{constants.ENDPOINT}/{repository}/resolve/main/{name}"):
        raise UserError(f"{missing}: the hub is out of reach")
    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the client raises its own, requests' and the system's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{missing} ({reason})") from error


def _answers(url: str) -> bool:
    """Whether a server says anything within seconds; looking its name up may take longer than any time-out."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS) as reply:
                answers.append(reply.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return bool(answers)
