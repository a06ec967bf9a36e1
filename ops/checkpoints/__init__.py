"""Weight files: load, save, fine-tune from, identify, translate published layouts."""

from ops.utils.deferred import names_of_package

_MODULES = {
    "describe": "ops.checkpoints.io",
    "export_state_dict": "ops.checkpoints.io",
    "fill": "ops.checkpoints.io",
    "load_model": "ops.checkpoints.io",
    "save_checkpoint": "ops.checkpoints.io",
    "tune": "ops.checkpoints.tuning",
}
__all__ = list(_MODULES)
__getattr__ = names_of_package(__name__, _MODULES)  # they need torch
