"""Read weight files, ours and strangers', as data: nothing in them is run."""

from pathlib import Path

import torch

from ops.errors import UserError
from ops.layouts import strip_wrappers
from ops.untrusted.safe_checkpoint import STAND_INS, RefusedCheckpoint, foreign_names
from ops.utils.text import printable


class _Inert:
    """Stands in for a class that a foreign file names (a scheduler, say): takes anything, keeps nothing, runs nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_checkpoint(path):
    """Everything a checkpoint file holds, on the CPU, without running code of the file (``weights_only=True``).

    Objects of classes that torch does not consider plain data, such as the scheduler in a released TDN file, come back as
    inert placeholders. Raises UserError for a file that is missing or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals(
            [(STAND_INS.get(name, _Inert), name) for name in foreign_names(path)]
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except RefusedCheckpoint as refused:
        raise UserError(
            f"{path}: not a readable checkpoint ({refused}); is the download complete?"
        ) from None
    except Exception as error:  # a damaged or hostile file can raise nearly anything
        # torch wraps the reason in advice on how to switch the protection off.
        reason = (str(error.__context__ or error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: not a readable checkpoint ({printable(reason)}); is the download complete?"
        ) from None


def read_state_dict(path):
    """The tensors of a checkpoint file by name, wrappers' prefixes stripped. Raises UserError."""
    return find_state_dict(read_checkpoint(path), path)


def find_state_dict(content, source):
    """The tensors by name in the content of a weight file, wrappers' prefixes stripped; source names it in errors.

    Raises UserError if there are none.
    """
    state = content
    if isinstance(content, dict):
        state = next(
            (
                content[key]
                for key in ("state_dict", "model_state", "model")
                if isinstance(content.get(key), dict) and _tensors(content[key])
            ),
            content,
        )
    state = _tensors(state) if isinstance(state, dict) else {}
    if not state:
        raise UserError(f"{source}: holds no weights (no dictionary of named tensors)")
    return strip_wrappers(state)


def _tensors(state):
    return {
        key: value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
