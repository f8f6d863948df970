"""A graph as files, and each file as a function: images (B, 3, H, W) -> probabilities (B, C), both of NumPy's fp32."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dassl.utils import InputError, replace_file

ONNX, INT8, PT2 = "model.onnx", "model_int8.onnx", "model.pt2"
PRODUCTS, SMALLEST = ("MatMul", "Gemm"), 64  # those whose weights have so many rows and columns are the encoder's
LARGEST = 2**31  # bytes of a constant that is folded
NEEDED = ("onnx", "onnxscript", "onnxruntime")
Function = Callable[[np.ndarray], np.ndarray]


class Format(NamedTuple):
    """How a file is made in a folder, of a graph or of what was made before, and how it is used."""

    write: Callable[[torch.export.ExportedProgram, Path], None]
    read: Callable[[Path], Function]


def check_libraries() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"ONNX needs {', '.join(missing)}: pip install -r requirements-export.txt, or choose --pt2 alone."
        )


@contextlib.contextmanager
def silent():
    """Exporters tell much that is nobody's to mend."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_onnx(graph: torch.export.ExportedProgram, folder: Path) -> None:
    from onnxscript.optimizer import optimize

    with silent():
        names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"]}
        program: Any = torch.onnx.export(graph, dynamo=True, optimize=True, **names)
        # Of larger constants too, or each weight would be transposed for each batch.
        optimize(program.model, input_size_limit=LARGEST, output_size_limit=LARGEST)
        program.save(str(folder / ONNX))


def write_int8(graph: torch.export.ExportedProgram, folder: Path) -> None:
    """The encoder's weights in 8 bits, activations as they come: no pictures are needed to prepare it. What tells classes
    apart stays as it is.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(folder / ONNX)
    weights = {each.name for each in model.graph.initializer if len(each.dims) == 2 and min(each.dims) >= SMALLEST}
    nodes = [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]
    with silent():
        how: dict[str, Any] = {"op_types_to_quantize": list(PRODUCTS), "nodes_to_quantize": nodes, "per_channel": True}
        quantize_dynamic(folder / ONNX, folder / INT8, weight_type=QuantType.QInt8, **how)


def write_pt2(graph: torch.export.ExportedProgram, folder: Path) -> None:
    with silent():
        replace_file(str(folder / PT2), lambda file: torch.export.save(graph, file))  # a full disk is one sentence


def read_onnx(path: Path) -> Function:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def read_pt2(path: Path) -> Function:
    with silent():
        module = torch.export.load(str(path)).module()

    @torch.no_grad()
    def run(images: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(images)).numpy()

    return run


FORMATS = {ONNX: Format(write_onnx, read_onnx), INT8: Format(write_int8, read_onnx), PT2: Format(write_pt2, read_pt2)}
