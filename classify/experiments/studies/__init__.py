"""Studies of when, what and where to transfer: which there are by name, for the command line.

This module imports neither torch nor numpy. To add a study, write its file, with a function that takes an `Asked` and
gives a `StudyResult`, and one entry in `STUDIES`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from features.errors import unknown


@dataclass(frozen=True)
class Study:
    """A study by name: one line for `--help`, where its function is, and the names of the options it alone reads.

    own_data: it takes data of its own, and no `--dataset`.
    """

    name: str
    summary: str
    function: str
    options: tuple[str, ...] = ()
    own_data: bool = False

    def load(self) -> Callable[..., Any]:
        """The function, imported now."""
        module, name = self.function.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            "data-size",
            "accuracy against images per class: frozen features, fine-tuning, from scratch",
            "data_size:data_size",
            ("models", "per_class", "seeds"),
        ),
        Study(
            "convergence",
            "validation accuracy against epochs and seconds: pre-trained against scratch",
            "convergence:convergence",
            ("models", "seeds"),
        ),
        Study(
            "robustness",
            "corrupted test images at five severities, wrong labels, unequal classes",
            "robustness:robustness",
            ("models", "corruptions"),
        ),
        Study(
            "out-of-domain",
            "other data sets with the same classes, out-of-distribution detection, calibration",
            "out_of_domain:out_of_domain",
            ("models", "others", "foreign"),
        ),
        Study(
            "transferability",
            "stage by stage between halves of the classes, and from ImageNet (Yosinski et al. 2014)",
            "transferability:transferability",
            ("stages", "seeds"),
        ),
        Study(
            "where",
            "which blocks to adapt: each alone, chosen by gradients, routed image by image, matched layer by layer",
            "where:where",
            ("stages",),
        ),
        Study(
            "office31",
            "the book's practice: six transfers between the three domains of Office-31, and their average",
            "office31:office31",
            ("data", "models"),
            own_data=True,
        ),
    )
}


def find_study(name: str) -> Study:
    """The study of that name; UserError with the nearest names if there is none."""
    if name in STUDIES:
        return STUDIES[name]
    raise unknown(f"there is no study called {name!r}", name, STUDIES)
