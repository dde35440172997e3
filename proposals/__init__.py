"""Where might objects be? From an image to its proposals.

This package knows numpy and OpenCV and nothing of the classifier that looks at the proposals.
"""

from proposals.selective_search import SelectiveSearch
from proposals.selectivesearch_package import SelectiveSearchPackage
from proposals.types import Engine, Image, Proposals

__all__ = ["ENGINES", "Engine", "Image", "Proposals", "SelectiveSearch", "SelectiveSearchPackage"]

ENGINES: dict[str, type[Engine]] = {
    "opencv": SelectiveSearch,
    "selectivesearch": SelectiveSearchPackage,
}
"""Proposal engines by the name that settings use."""
