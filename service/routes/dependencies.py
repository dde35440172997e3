"""Dependencies that several paths share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from service.service import Service


async def get_service(request: Request) -> Service:
    """Return the service, which exists from the application's start on."""
    service: Service = request.app.state.service
    return service


RunningService = Annotated[Service, Depends(get_service)]
