"""The report: one self-contained HTML page from a folder of results.

`folder` sorts what stands in the folder, `tables` and `charts` show it, `page` puts it together. Three modules read
more than results, and nothing of the rest does: `images` (the data set), `maps` (cached features) and `stages` (the
backbone); `gather` asks them. None of them downloads, extracts or trains.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import UserError
from features.written import text_written

if TYPE_CHECKING:
    from classify.show.report.looked import Explain

__all__ = ["write_report"]


def write_report(
    results: Path | str = "results",
    output: Path | str = "report.html",
    *,
    sample: int = 400,
    seed: int = 0,
    maps: bool = True,
    images: bool = True,
    stages: bool = True,
    dataset: str | None = None,
    paths: bool = False,
    command: str = "",
    explain: "Explain | None" = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Make the page of a folder of results; its path.

    sample: test images on the maps of the features, drawn with `seed`. maps, images, stages: whether there are maps of
    the features, images, and feature maps of one image. dataset: where the images are, if this home has not used
    the data set that the records name. paths: whether absolute paths are written out; else only their last name is, so
    that the page tells nobody where things stand and who works there. explain: what says where a model looked
    (`classify.use.explaining.explain_between`); None leaves that out. say: told what is worked on. Raises UserError
    where the folder holds no results, something in it is damaged, or the page cannot be written.
    """
    from classify.show.report.checks import show_checks
    from classify.show.report.folder import read_folder
    from classify.show.report.gather import PageRequest, gather
    from classify.show.report.page import render, templates
    from classify.show.report.places import known_places, places_of, without_places
    from features.home import home

    templates()  # what is not installed is said before minutes of work
    output = Path(output)
    checks = show_checks(Path(results), images=images, dataset=dataset)
    sections = read_folder(results, empty=bool(checks))
    gathered = gather(sections, PageRequest(sample, seed, maps, images, stages, dataset, explain), say)
    asked = [results, output, output.parent, dataset, Path.cwd(), home(), *places_of(sections)]
    known = known_places(asked)
    text = render(gathered, checks, str(results), command, str if paths else lambda text: without_places(text, known))
    try:
        with text_written(output) as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(
            f"{output}: the page cannot be written there ({error.strerror}), and what stood there stands; name another "
            "--output"
        ) from error
    return output
