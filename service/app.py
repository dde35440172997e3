"""The HTTP application: its paths, middleware and OpenAPI description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from detector import __version__
from detector.detector import Detector
from service.body_limit import BodyLimitMiddleware
from service.head_requests import HeadMiddleware
from service.keys import Keys
from service.metrics import Metrics
from service.problems import SCHEMA_NAME, add_problem_handlers
from service.request_log import REQUEST_ID_HEADER, RequestLogMiddleware
from service.routes import detect, page, state
from service.schemas import ProblemDetails
from service.service import run_service
from service.settings import ServiceSettings

SECURITY_SCHEMES = (
    HTTPBearer(auto_error=False),
    APIKeyHeader(name="X-API-Key", auto_error=False),
)
"""Documents where a key may be. `Keys` checks it."""


class App(FastAPI):
    """An application whose OpenAPI description has the schema of problems."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description."""
        description = super().openapi()
        # FastAPI would add a schema only together with the media type application/json.
        schemas = description["components"]["schemas"]
        schemas[SCHEMA_NAME] = ProblemDetails.model_json_schema()
        return description


def create_app(
    detectors: Mapping[str, Detector],
    settings: ServiceSettings | None = None,
    *,
    keys: Sequence[str] = (),
) -> FastAPI:
    """Make the application.

    Args:
        detectors: A detector for each preset that requests may name, all on the same networks.
            Requests that name no preset use the first one.
        settings: Limits under load.
        keys: API keys, of which a detection needs one. Without keys everybody may detect.
    """
    settings = settings or ServiceSettings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with run_service(detectors, settings, metrics) as service:
            app.state.service = service
            yield

    app = App(
        title="Going deeper: detector",
        description="Find objects in images.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Generated clients name their functions after this id.
        generate_unique_id_function=lambda route: route.name,
    )

    # Paths
    key_checks = [Depends(check) for check in (Keys(keys), *SECURITY_SCHEMES)] if keys else []
    app.include_router(detect.router, dependencies=key_checks)
    app.include_router(state.router)
    app.include_router(page.router)
    page.mount_files(app)
    add_problem_handlers(app)

    # Middleware: what is added later lies further outside.
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        BodyLimitMiddleware, limit=settings.max_bytes, total=settings.max_waiting_bytes
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", REQUEST_ID_HEADER],
            expose_headers=[REQUEST_ID_HEADER, "retry-after"],
        )
    app.add_middleware(RequestLogMiddleware, metrics=metrics)
    return app
