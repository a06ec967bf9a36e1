"""Networks as ONNX and torch.export files, and networks that run from an ONNX file."""

import importlib

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


def __getattr__(name):
    """Import a name when it is first used, as it needs torch or onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
