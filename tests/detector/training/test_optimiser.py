from __future__ import annotations

import math
from typing import Any

import pytest

from detector.training.optimiser import learning_rate_factor
from detector.training.settings import Optimisation


@pytest.mark.parametrize(
    ("settings", "step", "factor"),
    [
        ({"schedule": "cosine"}, 0, 1.0),
        ({"schedule": "cosine"}, 50, 0.5),
        ({"schedule": "cosine"}, 99, (1 + math.cos(0.99 * math.pi)) / 2),
        ({"schedule": "cosine", "warmup": 10}, 4, 0.5),
        ({"schedule": "cosine", "warmup": 10}, 55, 0.5),
        ({"schedule": "steps", "drop_every": 20}, 19, 1.0),
        ({"schedule": "steps", "drop_every": 20}, 20, 0.1),
        ({"schedule": "steps", "drop_every": 20}, 45, 0.01),
        ({"schedule": "paper"}, 79, 1.0),  # an epoch is 10 steps here
        ({"schedule": "paper"}, 80, 0.96),
        ({"schedule": "paper"}, 165, 0.96**2),
    ],
)
def test_schedules(settings: dict[str, Any], step: int, factor: float) -> None:
    optimisation = Optimisation.model_validate({"steps": 100, **settings})
    assert learning_rate_factor(optimisation, step, 10) == pytest.approx(factor)
