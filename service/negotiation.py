"""The choice between two media types by the header `Accept` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import math

from python_multipart.multipart import parse_options_header
from starlette.requests import Request


def prefers(request: Request, media_type: str, *, to: str) -> bool:
    """Return whether a request's `Accept` gives a media type more weight than another."""
    accept = ",".join(request.headers.getlist("accept"))
    return weight(accept, media_type) > weight(accept, to)


def weight(accept: str, media_type: str) -> float:
    """Return the weight, 0 to 1, of a media type: that of the most specific range in `accept`."""
    weights = {}
    for item in accept.split(","):
        name, parameters = parse_options_header(item.strip())
        weights[name.decode("latin-1")] = _parse_weight(parameters.get(b"q", b"1"))
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0.0)


def _parse_weight(text: bytes) -> float:
    """Return a number from 0 to 1. Text that is not a number counts as missing, which means 1."""
    try:
        number = float(text)
    except ValueError:
        return 1.0
    return min(max(number, 0.0), 1.0) if math.isfinite(number) else 1.0
