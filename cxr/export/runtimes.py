"""Programs that run an exported network: arrays in, arrays out, from several threads at once."""

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
    """An exported network, opened. Threads may call it side by side."""

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the outputs of ``cxr.export.graph.Graph`` by name, for films [B, C, S, S] and sizes [B, 2]."""
        ...


class OnnxRuntime:
    """ONNX Runtime. Each caller computes in its own thread; no pool of threads stands between.

    Args:
        path: of ``model.onnx``.
        callers: threads that will call it side by side.
        threads: cores they may use, all together.
        shape: of no use here.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        del shape
        library: Any = importlib.import_module("onnxruntime")
        options = library.SessionOptions()
        options.intra_op_num_threads = max(1, threads // callers)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; warnings are about its own optimisation
        self._session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        found = self._session.run(self._names, {"films": films, "sizes": sizes})
        return dict(zip(self._names, found, strict=True))


class OpenVino:
    """OpenVINO, a stream for each caller, in float32: by itself it takes bfloat16 where there is some, and boxes move.

    Args:
        path: of ``model.xml``.
        callers: threads that will call it side by side.
        threads: cores they may use, all together.
        shape: [B, C, S, S] that most calls will have. The network is compiled for it when the first such call comes,
            which is a tenth faster, and from then on a smaller batch is filled up with empty films. For calls of other
            shapes it is compiled once more, for any.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        library: Any = importlib.import_module("openvino")
        self._core, self._path, self._shape = library.Core(), path, shape
        self._settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(callers),
            "INFERENCE_NUM_THREADS": str(max(callers, threads)),
        }
        self._models: dict[Shape | None, Any] = {}
        self._lock, self._own = threading.Lock(), threading.local()

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        count, shape = len(films), self._shape
        if shape in self._models and shape is not None and films.shape[1:] == shape[1:] and count < shape[0]:
            empty = shape[0] - count
            films = np.concatenate([films, np.zeros((empty, *shape[1:]), np.float32)])
            sizes = np.concatenate([sizes, np.full((empty, 2), shape[2], np.int64)])
        request = self._request(shape if films.shape == shape else None)
        found = request.infer({"films": films, "sizes": sizes})
        return {output.get_any_name(): found[output][:count] for output in request.model_outputs}

    def _request(self, shape: Shape | None) -> Any:
        """Return this thread's own request to the network compiled for ``shape``; None: for any."""
        requests: dict[Shape | None, Any] = self._own.__dict__.setdefault("requests", {})
        if shape not in requests:
            with self._lock:
                if shape not in self._models:
                    self._models[shape] = self._compiled(shape)
            requests[shape] = self._models[shape].create_infer_request()
        return requests[shape]

    def _compiled(self, shape: Shape | None) -> Any:
        model = self._core.read_model(self._path)
        if shape is not None:
            model.reshape({"films": list(shape), "sizes": [shape[0], 2]})
        return self._core.compile_model(model, "CPU", self._settings)


class TorchScript:
    """A TorchScript archive. For the comparison after an export only: an archive is a program, and comes from anywhere.

    Args:
        path: of ``model.pt``.
        callers, threads, shape: of no use here; torch has its own pool of threads.
    """

    def __init__(self, path: Path, callers: int, threads: int, shape: Shape | None = None) -> None:
        del callers, threads, shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its own format old
            self._module: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        self._names: Sequence[str] = ("boxes", "labels", "scores", "image_scores")

    @torch.no_grad()
    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        found = self._module(torch.from_numpy(films), torch.from_numpy(sizes))
        return {name: value.numpy() for name, value in zip(self._names, found, strict=False)}


RUNNERS: Mapping[str, type[OnnxRuntime] | type[OpenVino] | type[TorchScript]] = {
    "onnx": OnnxRuntime,
    "openvino": OpenVino,
    "torch": TorchScript,
}
