"""The plan of a request that may be extracted: that of `features.request`, int8's ranges found where need be."""

from typing import Any

import features.request
from features.ranges import Ranges
from features.request import Plan, Request


def plan(request: Request) -> Plan:
    """The files that answer a request, whether they exist or not; torch is loaded where they are not known yet."""
    return features.request.plan(request, _find_ranges)


def _find_ranges(*material: Any) -> Ranges:
    from extract.calibration import find_ranges

    return find_ranges(*material)
