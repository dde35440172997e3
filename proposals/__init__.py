"""Proposals: boxes of an image that may contain an object, whatever its class.

This package uses numpy and OpenCV. It does not import the detector.
"""

from proposals.selective_search import SelectiveSearch
from proposals.selectivesearch_package import SelectiveSearchPackage
from proposals.types import Image, ProposalMethod, Proposals

__all__ = [
    "METHODS",
    "Image",
    "ProposalMethod",
    "Proposals",
    "SelectiveSearch",
    "SelectiveSearchPackage",
]

METHODS: dict[str, type[ProposalMethod]] = {
    "opencv": SelectiveSearch,
    "selectivesearch": SelectiveSearchPackage,
}
"""Proposal methods by their names in the settings. To add one, implement `ProposalMethod`."""
