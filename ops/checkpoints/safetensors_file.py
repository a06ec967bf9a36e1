"""Weights in ``.safetensors`` files (https://github.com/huggingface/safetensors).

The format holds tensors and texts. What else a checkpoint of this project contains is one of these
texts, as JSON.
"""

import json

import safetensors
import safetensors.torch

SUFFIX = ".safetensors"
LENGTH_BYTES = 8  # the length of the header, at the start of a file
LARGEST_HEADER = 100 * 2**20  # the format's own limit
# The framework that wrote the tensors, as transformers and others look for it.
_METADATA = {"format": "pt"}
_CONTENT = "checkpoint"  # name of the text with the plain values


def is_safetensors(start):
    """Whether a file is of this format, whatever its name.

    Args:
        start: its first bytes, nine or more.
    """
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        return False
    return 2 <= int.from_bytes(start[:LENGTH_BYTES], "little") <= LARGEST_HEADER


def read_safetensors(path):
    """The content of a file.

    Args:
        path: a regular file.

    Returns:
        The content of the checkpoint that :func:`write_safetensors` wrote; of another file, its
        tensors by name.

    Raises:
        ValueError: the file is damaged, or not of this format; the message is one line.
        OSError: the file cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    if _CONTENT not in metadata:
        return tensors
    try:
        content = json.loads(metadata[_CONTENT])
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"its {_CONTENT} is not a JSON object")
    return {**content, "state_dict": tensors}


def write_safetensors(file, content):
    """Write a checkpoint.

    Args:
        file: open for writing, binary.
        content: a state dict (name -> tensor), or a checkpoint: its state dict as "state_dict", and
            values that JSON has.
    """
    metadata = dict(_METADATA)
    state = content
    if "state_dict" in content:
        plain = {key: value for key, value in content.items() if key != "state_dict"}
        if plain:
            metadata[_CONTENT] = json.dumps(plain)
        state = content["state_dict"]
    state = {key: value.contiguous() for key, value in state.items()}
    file.write(safetensors.torch.save(state, metadata))
