"""Read weight files, ours and strangers', as data: nothing in them is run."""

import pickle
import re
from pathlib import Path
from typing import NamedTuple

import torch

from ops.checkpoints.layouts import strip_wrappers
from ops.checkpoints.safe_checkpoint import STAND_INS, RefusedCheckpoint, foreign_names
from ops.checkpoints.safetensors_reader import InvalidSafetensors, is_safetensors, read_safetensors
from ops.utils.errors import UserError
from ops.utils.files import open_regular
from ops.utils.text import counted, printable

# What training tools call the weights in their checkpoints, in the order of preference: ours and most others, then
# MMAction2, DeepSpeed, BasicSR and single files. Averaged weights come last: they are taken if there are no others.
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
# In a checkpoint of Lightning, and what its modules call the network beside a loss or metrics with tensors of their own.
_LIGHTNING = "pytorch-lightning_version"
_LIGHTNING_NETWORKS = ("model.", "net.", "network.")
_START = 512  # bytes of a file that show what it is
_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*(<\?xml|<!doctype html|<html|<head|<body)", re.I | re.S)


class _Inert:
    """Stands in for a class that a foreign file names (a scheduler, say): takes anything, keeps nothing, runs nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def weight_file(path):
    """The file that a path given as weights means: of a run's folder its best.pth.

    Args:
        path: a file, or the folder of a training run.

    Returns:
        The path of a file; one that does not exist is returned as it is, for the reader to refuse.

    Raises:
        UserError: a folder without a best.pth.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / "best.pth"
    if best.is_file():
        return best
    others = sorted(other.name for other in path.glob("*.pth*"))
    hint = f"; it contains {', '.join(others[:3])}" if others else ""
    raise UserError(f"{path}: a folder without best.pth; give the checkpoint file itself{hint}")


def read_checkpoint(path):
    """Everything a checkpoint file holds, on the CPU, without running code of the file (``weights_only=True``).

    Objects of classes that torch does not consider plain data, such as the scheduler in a released TDN file, come back as
    inert placeholders. A ``.safetensors`` file is a dictionary of its tensors.

    Args:
        path: a file that torch.save wrote, or a .safetensors file.

    Returns:
        The content; of a damaged file nothing.

    Raises:
        UserError: the file is missing, or not a checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with open_regular(path) as file:
            start = file.read(_START)
        _check_download(path, start)
        if is_safetensors(start) or path.suffix == ".safetensors":
            return read_safetensors(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except InvalidSafetensors as error:
        raise UserError(
            f"{path}: not a safetensors checkpoint, or a damaged one ({error}); is the download complete?"
        ) from None
    try:
        with torch.serialization.safe_globals(
            [(STAND_INS.get(name, _Inert), name) for name in foreign_names(path)]
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except RefusedCheckpoint as refused:
        raise UserError(
            f"{path}: not a PyTorch checkpoint, or a damaged one ({refused}); is the download complete?"
        ) from None
    except pickle.UnpicklingError as error:
        # torch wraps the reason, such as the name of a function, in advice on how to switch the protection off.
        reason = (str(error.__context__ or error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: not a PyTorch checkpoint, or a damaged one ({printable(reason)}); is the download complete?"
        ) from None
    except Exception:  # a damaged or hostile file can raise nearly anything, which helps nobody
        raise UserError(
            f"{path}: not a PyTorch checkpoint, or a damaged one; is the download complete?"
        ) from None


def _check_download(path, start):
    """Raises UserError for what a download often leaves in place of the file. start: its first bytes."""
    if start.startswith(_LFS):
        raise UserError(
            f"{path}: not a checkpoint but a Git LFS pointer to one; fetch the file itself with git lfs pull"
        )
    if _HTML.match(start):
        raise UserError(
            f"{path}: not a checkpoint but a web page (HTML), as a download link that needs a browser gives; "
            f"download the file itself"
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
        """What was chosen, for a report; empty where there was no choice."""
        parts = []
        if self.others:
            parts.append(
                f"weights {self.key} (not {', '.join(self.others)}; --weights_key chooses)"
            )
        if self.left_out:
            names = ", ".join(map(printable, self.left_out[:3]))
            more = ", ..." if len(self.left_out) > 3 else ""
            parts.append(
                f"without {counted(len(self.left_out), 'tensor')} beside the network ({names}{more})"
            )
        return "; ".join(parts)


def find_weights(content, source, weights_key=None):
    """The weights in the content of a file.

    Args:
        content: what :func:`read_checkpoint` returns, or a state dict.
        source: name of the file, for errors.
        weights_key: the key of the content to take; None takes the first of ``WEIGHT_KEYS``, else the tensors of the
            content itself, else the only dictionary of tensors.

    Returns:
        :class:`Weights`.

    Raises:
        UserError: there are no weights, none of this key, or several of unknown keys.
    """
    groups = {}
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, dict) and (tensors := _tensors(value)):
                groups[key] = tensors
    known = [key for key in WEIGHT_KEYS if key in groups]
    if weights_key is not None:
        if weights_key not in groups:
            has = f"it has {', '.join(map(printable, groups))}" if groups else "it has no such keys"
            raise UserError(f"{source}: holds no weights under --weights_key {weights_key}; {has}")
        chosen = weights_key
    elif known:
        chosen = known[0]
    elif isinstance(content, dict) and _tensors(content):
        return Weights(_stripped(_tensors(content)), None, ())
    elif len(groups) > 1:
        raise UserError(
            f"{source}: holds several sets of tensors ({', '.join(map(printable, groups))}); choose the weights with "
            f"--weights_key NAME"
        )
    elif groups:
        chosen = next(iter(groups))
    else:
        raise UserError(f"{source}: holds no weights (no dictionary of named tensors)")
    network = groups[chosen]
    if _LIGHTNING in content:
        network = _lightning_network(network)
    left_out = tuple(key for key in groups[chosen] if key not in network)
    state = _stripped(network)
    # Other tensors, of a loss or a table, are no weights of this network: these have names in common.
    same = [key for key in groups if key != chosen and _stripped(groups[key]).keys() & state.keys()]
    return Weights(state, chosen, tuple(same), left_out)


def read_state_dict(path):
    """The tensors of a checkpoint file by name, wrappers' prefixes stripped. Raises UserError."""
    return find_weights(read_checkpoint(path), path).state


def _lightning_network(tensors):
    """The tensors of the network in a LightningModule, or all where it has no attribute of a usual name."""
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
