"""Read weight files, of this project and of others, as data: no code in them is run."""

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

from ops.checkpoints.layouts import strip_wrappers
from ops.checkpoints.safetensors_file import SUFFIX, is_safetensors, read_safetensors
from ops.utils.errors import UserError
from ops.utils.files import is_web_page, open_regular
from ops.utils.text import counted, printable

# The names of the weights in the checkpoints of training tools, in the order of preference: ours
# and most others, then MMAction2, DeepSpeed, BasicSR and single files. Averaged weights come last:
# they are taken if there are no others.
WEIGHT_KEYS = (
    "state_dict",
    "model_state",
    "model",
    "model_state_dict",
    "module",
    "net",
    "network",
    "params",
    "weights",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "ema",
    "params_ema",
)
# A key in checkpoints of Lightning, and the usual names of the network in its modules, which may
# have a loss or metrics with tensors beside it.
_LIGHTNING = "pytorch-lightning_version"
_LIGHTNING_NETWORKS = ("model.", "net.", "network.")
_START = 512  # bytes of a file that show what it is
_LFS = b"version https://git-lfs.github.com/spec/"


_ZIP = b"PK\x03\x04"  # start of what torch.save writes since torch 1.6
_PICKLES = 5  # at the start of older files: magic number, version, system, content, storage keys
# Modules that Python 3 calls otherwise than the Python 2 names in pickles of protocol 2.
_PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}

_BYTEARRAY = "builtins.bytearray"  # torch.load would allocate any length that a file asks for
_MOST_NAMES = 200  # released files have ten; torch looks through all of them at every call


class _Inert:
    """A placeholder for an object of a class that is not plain data, such as a scheduler."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _empty_dict(*args):
    """A placeholder for a defaultdict: torch fills the entries of a plain dict only."""
    return {}


def read_checkpoint(path):
    """Everything that a checkpoint file contains, on the CPU; no code of the file is run.

    Objects of classes that torch does not consider plain data, such as the scheduler in a released
    TDN file, become inert placeholders. A ``.safetensors`` file is a dictionary of its tensors,
    unless :func:`ops.checkpoints.safetensors_file.write_safetensors` wrote a checkpoint.

    Args:
        path: a file that torch.save wrote, or a .safetensors file.

    Returns:
        The content.

    Raises:
        UserError: the file is missing, or not a checkpoint, or a damaged one.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    _check_download(path, start)
    kind = "PyTorch"
    reason = ""
    try:
        if is_safetensors(start) or path.suffix == SUFFIX:
            kind = "safetensors"
            return read_safetensors(path)
        return _load(path, start.startswith(_ZIP))
    except _RefusedCheckpoint as error:
        reason = f" ({error})"
    except pickle.UnpicklingError as error:
        # torch wraps the reason, such as the name of a function, in advice on how to switch the
        # protection off.
        lines = str(error.__context__ or error).strip().splitlines()
        if lines:
            reason = f" ({printable(lines[0])})"
    except Exception:
        # A damaged or hostile file can raise nearly anything, and the text helps no one.
        pass
    raise UserError(
        f"{path}: not a {kind} checkpoint, or a damaged one{reason}; is the download complete?"
    )


class _RefusedCheckpoint(ValueError):
    """Why a file is not loaded; the message is one line."""


def _load(path, is_zip):
    """The content of a file that torch.save wrote, with placeholders for objects."""
    if is_zip:
        names = _names_in_zip(path)
    else:
        names = _names_in_old_file(path)
    if _BYTEARRAY in names or len(names) > _MOST_NAMES:
        raise _RefusedCheckpoint("contains more than weights need")
    # torch.load takes a placeholder only for a name that it does not know itself.
    placeholders = []
    for name in names:
        kind = _Inert
        if name == "collections.defaultdict":
            kind = _empty_dict
        placeholders.append((kind, name))
    with torch.serialization.safe_globals(placeholders):
        return torch.load(path, map_location="cpu", weights_only=True)


def _names_in_zip(path):
    """The classes and functions in a file; refuses one that would grow when it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        members = {Path(member.filename).name: member for member in archive.infolist()}
        if "constants.pkl" in members:
            raise _RefusedCheckpoint("a TorchScript archive, which is code; save its state_dict()")
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise _RefusedCheckpoint("compressed, which torch.save does not do")
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise _RefusedCheckpoint("its members are larger than the file")
        with archive.open(members["data.pkl"]) as file:
            return _names_in_pickle(file)


def _names_in_old_file(path):
    """The classes and functions in a file of the format before torch 1.6."""
    names = set()
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            names |= _names_in_pickle(file)
    return names


def _names_in_pickle(file):
    """The classes and functions that the pickle at the position of a file refers to."""
    names = set()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            module, _, name = argument.partition(" ")
            names.add(f"{_PYTHON_2_MODULES.get(module, module)}.{name}")
    return names


def _check_download(path, start):
    """Raise UserError for what a download often leaves in place of the file.

    start: the first bytes of the file.
    """
    if start.startswith(_LFS):
        raise UserError(
            f"{path}: not a checkpoint but a Git LFS pointer to one; fetch the file itself with "
            f"git lfs pull"
        )
    if is_web_page(start):
        raise UserError(
            f"{path}: not a checkpoint but a web page (HTML), as a download link that needs a "
            f"browser gives; download the file itself"
        )


class Weights(NamedTuple):
    """Weights found in the content of a file.

    Attributes:
        state: the tensors by name, with wrappers' prefixes stripped.
        key: the key of the content that they are under, or None: the content itself.
        others: keys of further weights that were not taken.
        left_out: names of tensors beside the network, such as those of a loss.
    """

    state: dict
    key: str | None
    others: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def note(self):
        """The choice that was made, for a report; empty if there was none."""
        parts = []
        if self.others:
            others = ", ".join(self.others)
            parts.append(f"weights {self.key} (not {others}; --weights_key chooses)")
        if self.left_out:
            names = ", ".join(map(printable, self.left_out[:3]))
            if len(self.left_out) > 3:
                names += ", ..."
            count = counted(len(self.left_out), "tensor")
            parts.append(f"without {count} beside the network ({names})")
        return "; ".join(parts)


def find_weights(content, source, weights_key=None):
    """The weights in the content of a file.

    Args:
        content: what :func:`read_checkpoint` returns, or a state dict.
        source: name of the file, for errors.
        weights_key: the key of the content to take; None takes the first of ``WEIGHT_KEYS``, else
            the tensors of the content itself, else the only dictionary of tensors.

    Returns:
        :class:`Weights`.

    Raises:
        UserError: there are no weights, none of this key, or several of unknown keys.
    """
    if not isinstance(content, dict):
        content = {}
    groups = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, dict) and _tensors(value):
            groups[key] = _tensors(value)
    chosen = _choose_weights(content, groups, source, weights_key)
    if chosen is None:
        return Weights(_stripped(_tensors(content)), None, ())
    network = groups[chosen]
    if _LIGHTNING in content:
        network = _lightning_network(network)
    left_out = tuple(key for key in groups[chosen] if key not in network)
    state = _stripped(network)
    # Other groups are weights of this network, too, if they have names in common. Else they are of
    # a loss or a table.
    others = tuple(
        key for key in groups if key != chosen and _stripped(groups[key]).keys() & state.keys()
    )
    return Weights(state, chosen, others, left_out)


def _choose_weights(content, groups, source, weights_key):
    """The key of the weights in the groups of tensors of a content; None: the content itself."""
    if weights_key is not None:
        if weights_key in groups:
            return weights_key
        keys = "it has no such keys"
        if groups:
            keys = f"it has {', '.join(map(printable, groups))}"
        raise UserError(f"{source}: contains no weights under --weights_key {weights_key}; {keys}")
    for key in WEIGHT_KEYS:
        if key in groups:
            return key
    if _tensors(content):
        return None
    if not groups:
        raise UserError(f"{source}: contains no weights (no dictionary of named tensors)")
    if len(groups) > 1:
        raise UserError(
            f"{source}: contains several sets of tensors ({', '.join(map(printable, groups))}); "
            f"choose the weights with --weights_key NAME"
        )
    return next(iter(groups))


def read_state_dict(path):
    """The tensors of a checkpoint file by name, wrappers' prefixes stripped. Raises UserError."""
    return find_weights(read_checkpoint(path), path).state


def _lightning_network(tensors):
    """The tensors of the network in a LightningModule; all, if it has no usual name."""
    for prefix in _LIGHTNING_NETWORKS:
        network = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        if network:
            return network
    return tensors


def _stripped(tensors):
    # torch.optim.swa_utils.AveragedModel counts its averages beside the module.
    return strip_wrappers({key: value for key, value in tensors.items() if key != "n_averaged"})


def _tensors(state):
    return {
        key: value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
