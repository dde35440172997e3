"""Which of two media types a client would rather have (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import math

from python_multipart.multipart import parse_options_header
from starlette.requests import Request


def prefers(request: Request, kind: str, *, to: str) -> bool:
    """Does a request's `Accept` give a media type more weight than another?"""
    accept = ",".join(request.headers.getlist("accept"))
    return weight(accept, kind) > weight(accept, to)


def weight(accept: str, kind: str) -> float:
    """The weight, 0 to 1, of a media type in an `Accept` header: that of its closest range."""
    weights = {}
    for part in accept.split(","):
        name, parameters = parse_options_header(part.strip())
        weights[name.decode("latin-1")] = _number(parameters.get(b"q", b"1"))
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0.0)


def _number(weight: bytes) -> float:
    """From 0 to 1; what is not such a number says nothing, which means 1."""
    try:
        return min(max(float(weight), 0.0), 1.0) if math.isfinite(float(weight)) else 1.0
    except ValueError:
        return 1.0
