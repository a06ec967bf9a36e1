"""Weight files: load, save, fine-tune from, identify, translate published layouts."""

import importlib

_MODULES = {
    "describe": "ops.checkpoints.io",
    "export_state_dict": "ops.checkpoints.io",
    "fill": "ops.checkpoints.io",
    "load_model": "ops.checkpoints.io",
    "save_checkpoint": "ops.checkpoints.io",
    "tune": "ops.checkpoints.tuning",
}
__all__ = list(_MODULES)


def __getattr__(name):
    """Import a function when it is first used, as it needs torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
