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
    """

    def __init__(self, path: Path, callers: int, threads: int) -> None:
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
    """

    def __init__(self, path: Path, callers: int, threads: int) -> None:
        library: Any = importlib.import_module("openvino")
        core = library.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(callers),
            "INFERENCE_NUM_THREADS": str(max(callers, threads)),
        }
        self._model = core.compile_model(core.read_model(path), "CPU", settings)
        self._own = threading.local()

    def __call__(self, films: NDArray[np.float32], sizes: NDArray[np.int64]) -> Outputs:
        """Return the network's outputs by name."""
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        found = self._own.request.infer({"films": films, "sizes": sizes})
        return {output.get_any_name(): found[output] for output in self._model.outputs}


class TorchScript:
    """A TorchScript archive. For the comparison after an export only: an archive is a program, and comes from anywhere.

    Args:
        path: of ``model.pt``.
        callers, threads: as above; torch has its own pool of threads.
    """

    def __init__(self, path: Path, callers: int, threads: int) -> None:
        del callers, threads
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
