"""OpenVINO on a processor, where it is at least half as fast again as PyTorch."""

from __future__ import annotations

import threading

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from detector.backends import ProcessorCrops
from detector.backends.openvino_graph import classifier_graph, multibox_graph
from detector.bundles.manifest import Architecture, MultiBoxRecipe
from detector.common.cpu import available_cores
from detector.models.quantization import ActivationRanges
from detector.models.weights import Weights
from detector.regions.crops import normalise
from detector.runtime import FloatPrecision

MICRO_BATCH = 8
"""Number of crops that a stream works on at once."""

CORE = ov.Core()
"""The process's only core, which lives as long as the process.

Its plugin for processors gives the main thread another stack for signals, and takes it away when
the core ends. Of two cores that end in the order in which they were made, the second brings back
the stack that the first has freed: the next Ctrl-C would be a segmentation fault.
"""


class OpenVINOBackend(ProcessorCrops):
    """A classifier compiled by OpenVINO for this machine's processor.

    Args:
        weights: Tensors by their names.
        architecture: Variant of the network.
        precision: Arithmetic of what is not in 8-bit integers.
        activation_ranges: Activation range of each convolution, if they compute in 8 bits.
    """

    micro_batch = MICRO_BATCH

    def __init__(
        self,
        weights: Weights,
        architecture: Architecture,
        precision: FloatPrecision,
        activation_ranges: ActivationRanges | None = None,
    ) -> None:
        graph = classifier_graph(weights, architecture, activation_ranges)
        self._compiled = _CompiledGraph(graph, MICRO_BATCH, precision, available_cores())

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities `float32 [N, classes]` of crops `float32 [N, S, S, 3]`."""
        (probabilities,) = self._compiled(np.asarray(crops))
        return probabilities


class OpenVINOMultiBox:
    """MultiBox's network compiled by OpenVINO, as `proposals.multibox.MultiBox` calls it.

    Args:
        weights: Tensors by their names.
        recipe: Architecture, number of priors, and kind of head.
        views: Number of views of an image, which the network sees at once.
        precision: Arithmetic of the network, except for locations, which are float32.
    """

    def __init__(
        self, weights: Weights, recipe: MultiBoxRecipe, views: int, precision: FloatPrecision
    ) -> None:
        self._priors = weights["priors"]
        self._spread = recipe.spread
        self._normalisation = recipe.normalisation
        graph = multibox_graph(weights, recipe)
        self._compiled = _CompiledGraph(graph, views, precision, streams=1)

    def __call__(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at images `uint8 [N, S, S, 3]`.

        Returns:
            Boxes `float32 [N, K, 4]` as shares of the image's sides, and the logits of their
            confidences, `float32 [N, K]`.
        """
        pixels = np.stack([normalise(image, self._normalisation) for image in images])
        offsets, logits = self._compiled(pixels)
        sides = np.tile(self._priors[:, 2:] - self._priors[:, :2], 2)  # [K, 4]
        boxes = self._priors + np.float32(self._spread) * sides * offsets
        return np.asarray(boxes, np.float32), logits


class _CompiledGraph:
    """A compiled graph for batches of one size, on all cores that this process may use.

    Args:
        graph: The graph.
        batch_size: Number of inputs in a batch.
        precision: Arithmetic of what is not in 8-bit integers.
        streams: Number of batches that are worked on at once.
    """

    def __init__(
        self, graph: ov.Model, batch_size: int, precision: FloatPrecision, streams: int
    ) -> None:
        compiled = CORE.compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {
                    "bfloat16": ov.Type.bf16,
                    "float32": ov.Type.f32,
                }[precision],
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": available_cores(),
                "ENABLE_CPU_PINNING": False,  # worker processes need the same cores
            },
        )
        self._batch_size = batch_size
        # Two requests a stream: one is ready when another ends.
        self._queue = ov.AsyncInferQueue(compiled, 2 * streams)
        self._lock = threading.Lock()

    def __call__(self, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the graph's outputs for any number of inputs; the last batch is padded.

        Threads take turns, because the queue has one callback.
        """
        count = len(inputs)
        if padding := -count % self._batch_size:
            inputs = np.pad(inputs, ((0, padding), *[(0, 0)] * (inputs.ndim - 1)))
        outputs: dict[int, list[NDArray[np.float32]]] = {}

        def collect(request: ov.InferRequest, start: int) -> None:
            outputs[start] = [tensor.data.copy() for tensor in request.output_tensors]

        with self._lock:
            self._queue.set_callback(collect)
            for start in range(0, len(inputs), self._batch_size):
                self._queue.start_async({0: inputs[start : start + self._batch_size]}, start)
            self._queue.wait_all()
        columns = zip(*(outputs[start] for start in sorted(outputs)), strict=True)
        return [np.concatenate(column)[:count] for column in columns]
