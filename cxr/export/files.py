"""Writes a graph as files that other programs run: ONNX, OpenVINO, TorchScript."""

import copy
import importlib.util
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxr.export.graph import Graph
from cxr.export.norm import with_channels_last_norms, with_equal_parameters_shared

OPSET = 17  # the newest of ONNX for which torch's tracing exporter has been seen to write these graphs correctly
INPUTS = ("films", "sizes")
NEEDS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "torch": ()}  # packages for each runtime


def write_files(graph: Graph, runtime: str, folder: Path) -> list[Path]:
    """Write ``graph`` into ``folder`` for a runtime; return its files, of which the first one is to be opened.

    Only whole files appear. Files of an earlier export are replaced.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as part:
        made = _WRITERS[runtime](copy.deepcopy(graph), Path(part))
        for path in made:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return [path.replace(folder / path.name) for path in made]


def _write_onnx(graph: Graph, folder: Path) -> list[Path]:
    path = folder / "model.onnx"
    with_equal_parameters_shared(graph)
    axes = {"films": {0: "batch", 2: "side", 3: "side"}, "sizes": {0: "batch"}}
    axes |= {name: {0: "batch"} for name in graph.outputs}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph,
            _example(graph),
            str(path),
            input_names=INPUTS,
            output_names=graph.outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the exporter of torch.export fails at suppression
        )
    return [path]


def _write_openvino(graph: Graph, folder: Path) -> list[Path]:
    """Write ONNX first and open it with ``read_model``, because ``convert_model`` reports its use to Intel."""
    with_channels_last_norms(graph)
    openvino: Any = importlib.import_module("openvino")
    path = folder / "model.xml"
    with tempfile.TemporaryDirectory() as elsewhere:
        model = openvino.Core().read_model(_write_onnx(graph, Path(elsewhere))[0])
        openvino.save_model(model, path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]


def _write_torchscript(graph: Graph, folder: Path) -> list[Path]:
    path = folder / "model.pt"
    with _quiet(), torch.no_grad():
        traced: Any = torch.jit.trace(graph, _example(graph), check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(path))
    return [path]


_WRITERS: dict[str, Callable[[Graph, Path], list[Path]]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torchscript,
}


def _example(graph: Graph) -> tuple[Tensor, Tensor]:
    """Return two films of noise of different sizes, so that the trace stores neither size as a constant."""
    films = torch.rand(2, 1, graph.side, graph.side, generator=torch.Generator().manual_seed(0))
    films = films.expand(-1, graph.channels, -1, -1)
    return films.contiguous(), torch.tensor([[graph.side, graph.side - 8], [graph.side - 8, graph.side]])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's warnings that tracing is old."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # on an error torch prints the whole graph
        warnings.simplefilter("ignore")
        yield


def missing_packages(runtime: str) -> Sequence[str]:
    """Return the packages that an export for ``runtime`` needs but that are not installed."""
    return [name for name in NEEDS[runtime] if importlib.util.find_spec(name) is None]
