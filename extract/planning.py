"""The plan of a request that may be extracted: that of `features.request`, int8's ranges found where need be."""

from typing import Any

from features import request as requests
from features.ranges import Ranges


def plan(request: requests.Request) -> requests.Plan:
    """The files that answer a request, whether they exist or not; torch is loaded where they are not known yet."""
    return requests.plan(request, _find_ranges)


def _find_ranges(*material: Any) -> Ranges:
    from extract.int8_ranges import find_ranges

    return find_ranges(*material)
