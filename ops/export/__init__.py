"""Networks as ONNX and torch.export files, and networks that run from an ONNX file."""

from ops.utils.deferred import names_of_package

_MODULES = {
    "Description": "ops.export.description",
    "check_parity": "ops.export.parity",
    "export_onnx": "ops.export.graph",
    "export_torch": "ops.export.graph",
    "is_exported": "ops.export.network",
    "load_exported": "ops.export.network",
    "quantize": "ops.export.int8",
}
__all__ = list(_MODULES)
__getattr__ = names_of_package(__name__, _MODULES)  # they need torch or onnxruntime
