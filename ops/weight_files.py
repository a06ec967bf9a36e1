"""Read weight files, ours and strangers', as data: nothing in them is run."""
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path

import torch

from ops.errors import UserError
from ops.layouts import strip_wrappers


class _Inert:
    """Stands in for a class that a foreign file names (a scheduler, say): takes anything, keeps nothing, runs nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


# The state of a pickled optimiser is a defaultdict, and torch fills the entries of a plain dict only.
_STAND_INS = {"collections.defaultdict": lambda *_: {}}


def read_checkpoint(path):
    """Everything a checkpoint file holds, on the CPU, without running code of the file (``weights_only=True``).

    Objects of classes that torch does not consider plain data, such as the scheduler in a released TDN file, come back as
    inert placeholders. Raises UserError for a file that is missing or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals([(_STAND_INS.get(name, _Inert), name) for name in _foreign_names(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can raise nearly anything
        # torch wraps the reason in advice on how to switch the protection off.
        reason = (str(error.__context__ or error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path}: not a readable checkpoint ({reason}); is the download complete?") from None


def _foreign_names(path):
    """Names of the classes and functions in a checkpoint file that torch does not consider plain data."""
    names = set()
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        # The format before torch 1.6: magic number, version, system, content and storage keys, each a pickle; raw data.
        # torch prefers its own classes to a stand-in of the same name, so naming those as well does no harm.
        file.seek(0)
        for _ in range(5):
            pairs = [tuple(value.split(" ", 1)) for op, value, _ in pickletools.genops(file) if op.name == "GLOBAL"]
            # Modules are called as in Python 2, and torch renames most of them.
            for module, name in pairs:
                renamed = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                names.update((f"{module}.{name}", ".".join(renamed)))
    return names


def read_state_dict(path):
    """The tensors of a checkpoint file by name, wrappers' prefixes stripped. Raises UserError."""
    return find_state_dict(read_checkpoint(path), path)


def find_state_dict(content, source):
    """The tensors by name in the content of a weight file, wrappers' prefixes stripped; source names it in errors.

    Raises UserError if there are none.
    """
    state = content
    if isinstance(content, dict):
        state = next((content[key] for key in ("state_dict", "model_state", "model")
                      if isinstance(content.get(key), dict) and _tensors(content[key])), content)
    state = _tensors(state) if isinstance(state, dict) else {}
    if not state:
        raise UserError(f"{source}: holds no weights (no dictionary of named tensors)")
    return strip_wrappers(state)


def _tensors(state):
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
