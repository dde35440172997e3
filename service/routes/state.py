"""Probes, metrics, and the description of the networks."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from service.problems import Problem, closing_problem, document_problems
from service.routes.dependencies import RunningService
from service.schemas import Liveness, ModelResponse, Readiness

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""

router = APIRouter()


@router.get("/healthz", summary="Liveness probe")
async def healthz() -> Liveness:
    """Answer as long as the process runs, whatever its load."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Readiness probe",
    responses=document_problems(HTTPStatus.SERVICE_UNAVAILABLE),
)
async def readyz(service: RunningService) -> Readiness:
    """Tell whether the service takes requests; it is not ready from SIGTERM on.

    Nor is it while no worker process can be started.
    """
    if service.shutting_down:
        raise closing_problem()
    if not service.ready:
        detail = "no worker process can be started, or the classifier has stopped"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", detail, retry_after=5)
    return Readiness()


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(service: RunningService) -> Response:
    """Return counts and times in Prometheus' text format."""
    return PlainTextResponse(service.metrics.text(), media_type=METRICS_MEDIA_TYPE)


@router.get("/model", summary="The networks, their classes, and the presets")
async def model(service: RunningService) -> ModelResponse:
    """Describe the networks and the limits on requests."""
    networks = service.networks
    return ModelResponse(
        name=networks.name,
        version=networks.version,
        sha256=networks.sha256,
        classes=list(networks.classes),
        members=networks.available_members,
        multibox=networks.has_multibox,
        presets={
            name: detector.settings.model_dump(mode="json")
            for name, detector in service.detectors.items()
        },
        max_bytes=service.settings.max_bytes,
        max_pixels=service.default_detector.settings.images.max_pixels,
    )
