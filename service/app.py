"""The application: its paths, and what each answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from fastapi import Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.staticfiles import StaticFiles

from detector import __version__
from detector.detector import Detector
from detector.settings import Settings
from service.keys import Keys
from service.limits import FIELD, BodyLimit, read_image
from service.metrics import Metrics
from service.negotiation import prefers
from service.problems import Problem, closing, documented, request_id
from service.request_log import HEADER, LEFT, RequestLogMiddleware
from service.service import Answer, Service
from service.settings import ServiceSettings

T = TypeVar("T")

PAGE = Path(__file__).parent / "page"

JSON, PNG = "application/json", "image/png"
VARIES = {"vary": "accept"}
"""A header of what depends on the one named."""

SECURITY = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Headers of the page."""

SCHEMES = (HTTPBearer(auto_error=False), APIKeyHeader(name="X-API-Key", auto_error=False))
"""Where keys may be, for the description; `Keys` looks at them."""

BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {FIELD: {"type": "string", "format": "binary"}},
                "required": [FIELD],
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


def create_app(
    detector: Callable[[], Detector],
    settings: ServiceSettings | None = None,
    *,
    presets: Mapping[str, Settings] | None = None,
    keys: Sequence[str] = (),
) -> FastAPI:
    """The application.

    Args:
        detector: loads the detector, when the application starts.
        settings: its limits.
        presets: the detector's settings by the names that requests may ask for, the first for those
            that ask for none; the detector's own, "default", if not given.
        keys: API keys, of which a detection needs one; without any, none is needed.
    """
    settings = settings or ServiceSettings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = await asyncio.to_thread(detector)
        service = Service(loaded, settings, presets or {"default": loaded.settings}, metrics)
        async with service.started():
            app.state.service = service
            yield
        loaded.close()

    app = FastAPI(
        title="Going deeper: detector",
        description="Where are objects in an image, and of which class?",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_problems(app)
    _add_detection(app, settings, Keys(keys) if keys else None)
    _add_state(app, metrics)
    _add_page(app)
    app.add_middleware(BodyLimit, limit=settings.max_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", HEADER],
            expose_headers=[HEADER, "retry-after"],
        )
    app.add_middleware(RequestLogMiddleware, metrics=metrics)
    return app


def _add_detection(app: FastAPI, settings: ServiceSettings, keys: Keys | None) -> None:
    @app.post(
        "/detect",
        summary="Find the objects in an image",
        openapi_extra={"requestBody": BODY},
        response_class=Response,
        responses={
            200: {
                "description": "What was found; with `Accept: image/png` the image with its boxes",
                "content": {JSON: {}, PNG: {}},
            },
            **documented(
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
        dependencies=[Depends(each) for each in (keys, *SCHEMES)] if keys else [],
    )
    async def detect(
        request: Request,
        score_threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
        max_detections: Annotated[int | None, Query(ge=1)] = None,
        classes: Annotated[str | None, Query(description="names with commas between them")] = None,
        preset: Annotated[str | None, Query(description="one of those in /model")] = None,
        include: Annotated[
            Literal["proposals"] | None, Query(description="also all boxes looked at")
        ] = None,
    ) -> Response:
        service: Service = request.app.state.service
        wanted: dict[str, Any] = {}
        if score_threshold is not None:
            wanted["score_threshold"] = score_threshold
        if max_detections is not None:
            wanted["max_detections"] = max_detections
        if classes is not None:
            names = [name.strip() for name in classes.split(",")]
            wanted["classes"] = _known(names, service.detector.classes, "classes")
        (chosen,) = _known([preset or next(iter(service.presets))], [*service.presets], "preset")

        async def work(data: bytes) -> Response:
            answer = await service.detect(data, chosen, wanted)
            if prefers(request, PNG, to=JSON):
                picture = await service.picture(answer, score_threshold)
                return Response(picture, media_type=PNG, headers=VARIES)
            content = _to_json(answer, service, request, include is not None)
            return JSONResponse(content, headers=VARIES)

        try:
            async with asyncio.timeout(settings.deadline), service.place():
                reading = _in_time(read_image(request, settings.max_bytes), settings)
                data = await _unless(reading, _closed(service))
                return await _unless(work(data), _closed(service), _left(request))
        except ClientDisconnect:
            return Response(status_code=LEFT)
        except TimeoutError as error:
            raise Problem(
                HTTPStatus.GATEWAY_TIMEOUT,
                "deadline",
                f"not done within {settings.deadline:g} seconds",
            ) from error


async def _in_time(body: Coroutine[Any, Any, bytes], settings: ServiceSettings) -> bytes:
    try:
        async with asyncio.timeout(settings.upload_deadline):
            return await body
    except TimeoutError as error:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "slow-upload",
            f"the body was not there within {settings.upload_deadline:g} seconds",
        ) from error


async def _unless(work: Coroutine[Any, Any, T], *ends: Coroutine[Any, Any, NoReturn]) -> T:
    """The work's result, unless one of the ends comes first, which then raises."""
    tasks = [asyncio.ensure_future(each) for each in (work, *ends)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        result: T = next(task for task in tasks if task.done()).result()
        return result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(service: Service) -> NoReturn:
    await service.over.wait()
    raise closing()


async def _left(request: Request) -> NoReturn:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


def _known(names: Sequence[str], allowed: Sequence[str], parameter: str) -> tuple[str, ...]:
    for name in names:
        if name not in allowed:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "bad-parameter",
                f"{parameter}: {name[:80]!r} is unknown: allowed are {', '.join(allowed)}",
            )
    return tuple(names)


def _to_json(answer: Answer, service: Service, request: Request, boxes: bool) -> dict[str, Any]:
    bundle = service.detector.bundle
    height, width = answer.image.shape[:2]
    content: dict[str, Any] = {
        "width": width,
        "height": height,
        "detections": [
            {"label": label, "score": score, "box": list(box)}
            for label, score, box in answer.detections
        ],
        "proposals": dict(answer.proposals.counts()),
        "seconds": {stage: round(value, 4) for stage, value in answer.seconds.items()},
        "bundle": f"{bundle.manifest.name}@{bundle.sha256[:8]}",
        "request_id": request_id(request),
    }
    if boxes:
        content["proposal_boxes"] = answer.proposals.boxes.astype(int).tolist()
    return content


def _add_state(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Does the process live?")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get(
        "/readyz",
        summary="May requests come?",
        responses=documented(HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def readyz(request: Request) -> dict[str, str]:
        if not request.app.state.service.ready:
            raise closing()
        return {"status": "ready"}

    @app.get("/metrics", summary="Counts and times for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/model", summary="The networks, their classes, and the presets")
    async def model(request: Request) -> dict[str, Any]:
        service: Service = request.app.state.service
        manifest = service.detector.bundle.manifest
        return {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": service.detector.bundle.sha256,
            "classes": list(manifest.classes),
            "members": len(manifest.members),
            "multibox": manifest.multibox is not None,
            "presets": {
                name: preset.settings.model_dump(mode="json")
                for name, preset in service.presets.items()
            },
            "max_bytes": service.settings.max_bytes,
            "max_pixels": service.detector.settings.images.max_pixels,
        }


def _add_page(app: FastAPI) -> None:
    swagger = files("swagger_ui_bundle").joinpath("vendor")
    (assets,) = [place for place in swagger.iterdir() if place.name.startswith("swagger-ui-")]
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), "swagger")
    app.mount("/page", StaticFiles(directory=PAGE), "page")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/page/icon.svg",
        )

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        content = (PAGE / "index.html").read_bytes()
        return Response(content, media_type="text/html", headers=SECURITY)


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response(request_id(request))

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        detail = f"{first['loc'][-1]}: {first['msg']}"
        found = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", detail)
        return found.response(request_id(request))

    @app.exception_handler(HTTPException)
    async def no_such(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "-")
        found = Problem(status, code, str(error.detail))
        found.headers |= dict(error.headers or {})
        return found.response(request_id(request))
