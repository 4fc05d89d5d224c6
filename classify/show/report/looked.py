"""Where the best model looked in the test images that it got wrong, as the page shows it.

This reads more than results: the data set, the fitted head and its backbone, if they are at hand and are still those of
the records. Nothing is downloaded for this.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

from classify.measure.results import SavedResult
from classify.measure.wording import one_line, percent
from classify.show.report.charts import Figure
from classify.show.report.errors import Shown
from classify.show.report.folder import Model, Section
from classify.show.report.images import TestImages, option
from classify.show.report.stages import weights_at_hand
from classify.show.report.svg import drawing, element, words
from features.errors import UserError
from features.named_code import require_trust

# Of a result, test images, and for each the class that was said and the true one, with where the network's weights
# are: an `Explanation` of each. `classify.use.explaining` has it, which stands above this room.
Explain = Callable[[SavedResult, list[Any], list[tuple[str, str]], str | None], Sequence[Any]]

MOST = 6  # images
_TILE, _GAP, _CAPTION = 150.0, 6.0, 44.0
_PIXELS = 192  # of a picture's side


def see_where(
    section: Section, images: TestImages, errors: Sequence[Shown], name: str, explain: Explain
) -> Figure | str:
    """Of the best model's errors, those it was most sure of: why the class that it said, and not the true one. A string
    says why that cannot be shown; '' where there is nothing to be shown."""
    shown = [error for error in errors if error.said is not None][:MOST]
    if not shown:
        return ""
    try:
        pixels, pairs = [images.read(error.row) for error in shown], [(str(error.said), error.truth) for error in shown]
        explained = explain(section.best.saved, pixels, pairs, _weights(section.best))
    except UserError as error:
        return f"where the network looked is left out: {one_line(error)}"
    title = "Where it looked when it was wrong"
    caption = one_line(
        f"{section.best.name}: beside each image, red is what speaks for the class that it said against the true one, "
        "blue what speaks against it, as strong as the strongest place of that image lets it be. All places together "
        "are the difference of the two classes' log-probabilities, or of their scores (integrated gradients from an "
        "empty map; exact for a linear head on an averaged map)."
    )
    drawings = tuple(_draw(shown, explained, variant, title) for variant in ("wide", "narrow"))
    return Figure(name, title, caption, drawings)


def _weights(model: Model) -> str | None:
    """Where the weights of the model's frozen network are; None where it has none, or draws them."""
    config = model.saved.result.config
    if not config.backbone or not config.weights or config.weights.startswith("random") or config.is_network:
        return None
    require_trust(config.backbone, model.saved.path)
    asked = option(model.saved.result.command, "--weights") or "default"
    return weights_at_hand(config.backbone, asked, config.weights_sha256)


def _draw(shown: Sequence[Shown], explained: Sequence[Any], variant: str, label: str) -> str:
    """Two images beside each other on a wide page, one on a narrow one, each with what was found beside it."""
    across = 2 if variant == "wide" else 1
    width, height = 2 * _TILE + _GAP + 24, _TILE + _CAPTION
    parts: list[str] = []
    for place, (error, explanation) in enumerate(zip(shown, explained, strict=True)):
        down, over = divmod(place, across)
        x, y = 8 + over * width, 8 + down * height
        picture = explanation.picture()
        for side, left in ((x, 0), (x + _TILE + _GAP, picture.width - picture.height)):
            half = picture.crop((left, 0, left + picture.height, picture.height)).resize((_PIXELS, _PIXELS))
            parts.append(element("image", x=side, y=y, width=_TILE, height=_TILE, href=_jpeg(half)))
        sure = "" if error.sure is None else f" ({percent(error.sure, 0)} % sure)"
        parts.append(words(x, y + _TILE + 14, f"said to be {_cut(error.said)}{sure}", "label strong"))
        parts.append(words(x, y + _TILE + 30, f"is {_cut(error.truth)}"))
    return drawing(8 + across * width, 8 + -(-len(shown) // across) * height, parts, label, variant)


def _cut(name: str | None) -> str:
    text = one_line(name)
    return text if len(text) <= 28 else f"{text[:27]}…"


def _jpeg(picture: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
