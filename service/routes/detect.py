"""POST /detect."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect, Request

from detector.detector import Detector
from service.negotiation import prefers
from service.problems import Problem, document_problems, request_id
from service.request_log import CLIENT_LEFT
from service.routes.dependencies import RunningService
from service.scheduler import DetectedImage
from service.schemas import Detection, DetectQuery, DetectResponse, Seconds
from service.service import Service
from service.settings import ServiceSettings
from service.uploads import FIELD, read_image

T = TypeVar("T")

JSON = "application/json"
PNG = "image/png"
VARY = {"vary": "accept"}
"""Tells caches that the answer depends on the header `Accept`."""

BINARY = {"type": "string", "format": "binary"}
"""Schema of the bytes of a file."""

FORM = {"type": "object", "properties": {FIELD: BINARY}, "required": [FIELD]}

REQUEST_BODY = {
    "description": "A form with the image's file in a field, or the file itself as the body. "
    "Besides application/octet-stream, the body may have any content type image/….",
    "required": True,
    # Generators of clients do not know ranges such as image/*, so they are not listed.
    "content": {
        "multipart/form-data": {"schema": FORM},
        "application/octet-stream": {"schema": BINARY},
    },
}

router = APIRouter()


@router.post(
    "/detect",
    summary="Find the objects in an image",
    openapi_extra={"requestBody": REQUEST_BODY},
    response_model=DetectResponse,
    responses={
        200: {
            "description": "The objects; with `Accept: image/png` the image with their boxes",
            "content": {PNG: {"schema": BINARY}},
        },
        **document_problems(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.GATEWAY_TIMEOUT,
        ),
    },
)
async def detect(
    request: Request, query: Annotated[DetectQuery, Query()], service: RunningService
) -> Response:
    """Find the objects in an image, which is the body itself or a field of a form."""
    _check_parameters(request)
    detector = _choose_detector(service, query)

    async def answer(data: bytes) -> Response:
        detected = await service.detect(detector, data)
        if prefers(request, PNG, to=JSON):
            png = await service.draw(detected.result, query.score_threshold)
            return Response(png, media_type=PNG, headers=VARY)
        response = _make_response(detected, query, service, request)
        return JSONResponse(response.model_dump(exclude_none=True), headers=VARY)

    try:
        async with asyncio.timeout(service.settings.deadline), service.slot():
            data = await _run_unless(_receive(request, service.settings), service.raise_at_end())
            return await _run_unless(
                answer(data), service.raise_at_end(), _raise_at_disconnect(request)
            )
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT)
    except TimeoutError as error:
        raise Problem(
            HTTPStatus.GATEWAY_TIMEOUT,
            "deadline",
            f"not done within {service.settings.deadline:g} seconds",
        ) from error


def _check_parameters(request: Request) -> None:
    """Check that each query parameter is known, and given once.

    Raises:
        Problem: 422. It names the parameter, and a known one that is spelled alike.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    known = [*DetectQuery.model_fields]
    for name, count in counts.items():
        if name not in known:
            alike = get_close_matches(name, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"known are {', '.join(known)}"
            detail = f"{name[:80]!r} is no parameter: {hint}"
        elif count > 1:
            detail = f"{name}: given {count} times"
        else:
            continue
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", detail)


def _choose_detector(service: Service, query: DetectQuery) -> Detector:
    """Return the detector that a request asks for.

    Raises:
        Problem: 422, because a preset or a class is unknown.
    """
    if query.preset is not None:
        _check_known([query.preset], [*service.detectors], "preset")

    detections: dict[str, Any] = {}
    if query.score_threshold is not None:
        detections["score_threshold"] = query.score_threshold
    if query.max_detections is not None:
        detections["max_detections"] = query.max_detections
    if query.classes is not None:
        names = [name.strip() for name in query.classes.split(",")]
        _check_known(names, service.networks.classes, "classes")
        detections["classes"] = tuple(names)
    return service.make_detector(query.preset, detections)


def _check_known(names: Sequence[str], allowed: Sequence[str], parameter: str) -> None:
    """Check the names in a query parameter.

    Raises:
        Problem: 422, because a name is unknown.
    """
    for name in names:
        if name not in allowed:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "bad-parameter",
                f"{parameter}: {name[:80]!r} is unknown: allowed are {', '.join(allowed)}",
            )


async def _receive(request: Request, settings: ServiceSettings) -> bytes:
    """Read the image of a request within the deadline for uploads.

    Raises:
        Problem: The upload is too slow, or has no image.
    """
    try:
        async with asyncio.timeout(settings.upload_deadline):
            return await read_image(request, settings.max_bytes)
    except TimeoutError as error:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "slow-upload",
            f"the body was not there within {settings.upload_deadline:g} seconds",
        ) from error


async def _run_unless(
    work: Coroutine[Any, Any, T], *interruptions: Coroutine[Any, Any, NoReturn]
) -> T:
    """Return the result of some work, unless an interruption raises first."""
    tasks = [asyncio.ensure_future(each) for each in (work, *interruptions)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        result: T = next(task for task in tasks if task.done()).result()
        return result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _raise_at_disconnect(request: Request) -> NoReturn:
    """Wait until the client leaves.

    Raises:
        ClientDisconnect: At that time.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


def _make_response(
    detected: DetectedImage, query: DetectQuery, service: Service, request: Request
) -> DetectResponse:
    result = detected.result
    networks = service.networks
    seconds = {stage: round(value, 4) for stage, value in result.seconds.items()}
    detections = [
        Detection(label=label, score=score, box=list(box))
        for label, score, box in result.detections
    ]
    boxes = detected.proposals.boxes.astype(int).tolist() if query.include else None
    return DetectResponse(
        width=result.width,
        height=result.height,
        detections=detections,
        proposals=dict(result.proposals),
        seconds=Seconds(**seconds),
        bundle=f"{networks.name}@{networks.sha256[:8]}",
        request_id=request_id(request),
        proposal_boxes=boxes,
    )
