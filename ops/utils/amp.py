"""Automatic mixed precision."""

import contextlib

import torch

# Values of --amp besides "none".
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device, amp):
    """Context of mixed precision.

    Args:
        device: a ``torch.device``.
        amp: "none", "bf16" or "fp16".
    """
    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device.type, AMP_DTYPES[amp])
