"""Live video: networks that run frame by frame, and windows of the others."""

from ops.utils.deferred import names_of_package

_MODULES = {
    "DemoRule": "ops.streaming.smoothing",
    "Event": "ops.streaming.smoothing",
    "LiveResult": "ops.streaming.live",
    "LiveStream": "ops.streaming.live",
    "Smoother": "ops.streaming.smoothing",
    "StreamingTSN": "ops.streaming.step",
    "stepping_obstacle": "ops.streaming.step",
}
__all__ = list(_MODULES)
__getattr__ = names_of_package(__name__, _MODULES)  # --help needs the defaults, not torch
