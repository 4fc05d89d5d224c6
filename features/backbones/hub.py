"""Files of the hub: found where its own client keeps them, fetched by it, and without a network missed in seconds."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from features.errors import UserError

_SECONDS = 5.0  # a hub's client tries for most of a minute


def cached(repository: str, *names: str) -> Path | None:
    """The first of these files of a repository of the Hugging Face hub that is here."""
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def fetch(repository: str, *names: str) -> Path:
    """The same, or else the first of them that the hub has, downloaded; UserError where it has none, or does not
    answer."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError

    if here := cached(repository, *names):
        return here
    missing = (
        f"{names[0]} of {repository} is not at hand; download it from {constants.ENDPOINT}/{repository} and "
        f"give it with --weights PATH, or have it in {constants.HF_HUB_CACHE}"
    )
    if constants.HF_HUB_OFFLINE or not _answers(f"{constants.ENDPOINT}/{repository}/resolve/main/{names[0]}"):
        raise UserError(f"{missing}: the hub is out of reach")
    problem: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError as error:
            problem = error
        except Exception as error:  # the client raises its own, requests' and the system's
            problem = error
            break
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
    raise UserError(f"{missing} ({reason})") from problem


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
