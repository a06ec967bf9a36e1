"""Live video: networks that run frame by frame, and windows of the others."""

import importlib

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


def __getattr__(name):
    """Import a name when it is first used: --help needs the defaults, not torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
