"""Programs that run an exported network. Input and output are arrays; several threads may call one at once."""

import importlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
Shape = tuple[int, int, int, int]


class Runtime(Protocol):
    """An opened exported network. Several threads may call it at once."""

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the outputs of ``cxr.export.graph.Graph`` by name, for films [B, C, S, S] and sizes [B, 2]."""
        ...


class OnnxRuntime:
    """ONNX Runtime. Each caller computes in its own thread, without a pool of threads.

    Args:
        path: the file ``model.onnx``.
        callers: number of threads that call it at once.
        threads: number of cores that they may use together.
        shape: not used here.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        del shape
        library: Any = importlib.import_module("onnxruntime")
        options = library.SessionOptions()
        options.intra_op_num_threads = max(1, threads // callers)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # only errors; warnings are about the optimisation of the graph
        self._session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        outputs = self._session.run(self._names, {"films": films, "sizes": sizes})
        return dict(zip(self._names, outputs, strict=True))


class OpenVino:
    """OpenVINO with a stream for each caller, in float32. Its default is bfloat16 where possible, which moves boxes.

    Args:
        path: the file ``model.xml``.
        callers: number of threads that call it at once.
        threads: number of cores that they may use together.
        shape: shape [B, C, S, S] of most calls. The first such call compiles the network for this shape, which makes it
            a tenth faster. From then on smaller batches are filled up with empty films. For calls of other shapes the
            network is compiled once more, for any shape.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        library: Any = importlib.import_module("openvino")
        self._core, self._shape = library.Core(), shape
        self._network = self._core.read_model(path)  # here, so that a damaged one is told before any film is read
        self._settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(callers),
            "INFERENCE_NUM_THREADS": str(max(callers, threads)),
        }
        self._models: dict[Shape | None, Any] = {}
        self._lock, self._of_thread = threading.Lock(), threading.local()

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        count, shape = len(films), self._shape
        if shape in self._models and shape is not None and films.shape[1:] == shape[1:] and count < shape[0]:
            empty = shape[0] - count
            films = np.concatenate([films, np.zeros((empty, *shape[1:]), np.float32)])
            sizes = np.concatenate([sizes, np.full((empty, 2), shape[2], np.int64)])
        request = self._request(shape if films.shape == shape else None)
        outputs = request.infer({"films": films, "sizes": sizes})
        return {output.get_any_name(): outputs[output][:count] for output in request.model_outputs}

    def _request(self, shape: Shape | None) -> Any:
        """Return this thread's request to the network that is compiled for ``shape``; None means for any shape."""
        requests: dict[Shape | None, Any] = self._of_thread.__dict__.setdefault("requests", {})
        if shape not in requests:
            with self._lock:
                if shape not in self._models:
                    self._models[shape] = self._compiled(shape)
            requests[shape] = self._models[shape].create_infer_request()
        return requests[shape]

    def _compiled(self, shape: Shape | None) -> Any:
        model = self._network.clone()
        if shape is not None:
            model.reshape({"films": list(shape), "sizes": [shape[0], 2]})
        return self._core.compile_model(model, "CPU", self._settings)


class TorchScript:
    """A TorchScript archive. Only the comparison after an export uses it, as an archive of others may run any code.

    Args:
        path: the file ``model.pt``.
        callers, threads, shape: not used here; torch has its own pool of threads.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        del callers, threads, shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that this format is old
            self._module: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        self._names: Sequence[str] = ("boxes", "labels", "scores", "image_scores")

    @torch.no_grad()
    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        outputs = self._module(torch.from_numpy(films), torch.from_numpy(sizes))
        return {name: value.numpy() for name, value in zip(self._names, outputs, strict=False)}


RUNNERS: Mapping[str, type[OnnxRuntime] | type[OpenVino] | type[TorchScript]] = {
    "onnx": OnnxRuntime,
    "openvino": OpenVino,
    "torch": TorchScript,
}
