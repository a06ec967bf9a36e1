"""Weight files: load, save, fine-tune from, identify, translate published layouts."""

import importlib

__all__ = ["describe", "export_state_dict", "fill", "load_model", "save_checkpoint", "tune"]


def __getattr__(name):
    """Import ``ops.checkpoints.io`` for its functions when they are first used, as it needs torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("ops.checkpoints.io"), name)
