"""Where might objects be? From an image to its proposals.

This package knows numpy and OpenCV and nothing of the classifier that looks at the proposals.
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
"""Proposal engines by the name that settings use."""
