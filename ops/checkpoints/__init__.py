"""Weight files: load, save, fine-tune from, identify, translate published layouts."""

from ops.checkpoints.io import (
    describe,
    export_state_dict,
    fill,
    load_model,
    save_checkpoint,
    tune,
)

__all__ = ["describe", "export_state_dict", "fill", "load_model", "save_checkpoint", "tune"]
