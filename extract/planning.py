"""The plan of a request that may be extracted: that of `features.request`, int8's ranges found where need be."""

from typing import TYPE_CHECKING

import features.request
from features.datasets import Dataset
from features.ranges import Ranges
from features.request import Plan, Request

if TYPE_CHECKING:
    from features.backbones import Backbone
    from features.cut import Cut
    from features.preprocessing import Preprocessing


def plan(request: Request) -> Plan:
    """The files that answer a request, whether they exist or not; torch is loaded where they are not known yet."""
    return features.request.plan(request, _find_ranges)


def _find_ranges(dataset: Dataset, backbone: "Backbone", preprocessing: "Preprocessing", cut: "Cut") -> Ranges:
    from extract.calibration import find_ranges

    return find_ranges(dataset, backbone, preprocessing, cut)
