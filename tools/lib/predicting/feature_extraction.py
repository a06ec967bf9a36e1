"""What tools/extract_features.py does after its arguments are parsed."""

import argparse
import io
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from lib.lists.video_search import is_video_name
from lib.messages import note
from lib.predicting.predict_inputs import find_inputs
from ops.checkpoints.names import resolve_weights
from ops.data.readers.base import UnreadableVideo
from ops.predict import Predictor, WindowFeatures
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, read_regular, sha256
from ops.utils.locks import exclusive_lock
from ops.utils.text import counted

INDEX = "index.json"
_FORMAT = 1
_HEADER_BYTES = 128  # of a .npy file whose shape has at most three numbers
_SAVE_SECONDS = 10  # from one save of the index to the next


@dataclass(frozen=True)
class Settings:
    """How windows become rows of a file.

    Attributes:
        window, step: in ``unit``.
        unit: "frames" or "seconds".
        pool: "none" keeps each segment, "time" is the mean over them.
        dtype: "float16" or "float32".
    """

    window: float
    step: float
    unit: str
    pool: str
    dtype: str


def extract(args: argparse.Namespace, settings: Settings) -> int:
    """Extract the features of the videos that the flags name; returns the exit status."""
    predictor = Predictor(
        args.weights,
        args.device,
        num_segments=args.num_segments,
        weights_key=args.weights_key,
        crops=args.crops,
        sampling="center",
        full_res=args.full_res,
        image_tmpl=args.image_tmpl,
        amp=args.amp,
        module=args.module,
    )
    note(predictor.model.report)
    targets = _targets(args.videos, predictor.model.modality)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    description = {
        **asdict(settings),
        "weights_sha256": sha256(resolve_weights(args.weights)),
        "weights_key": args.weights_key,
        "num_segments": predictor.model.num_segments,
        "crops": args.crops,
        "crop_size": predictor.protocol.crop_size,
        "amp": args.amp,
        "fps": args.fps,
    }
    with exclusive_lock(out, "features", "OUT"):
        index = FeatureIndex(out / INDEX, description)
        try:
            return _extract_all(args, settings, predictor, targets, index)
        finally:
            index.save()


def _extract_all(
    args: argparse.Namespace,
    settings: Settings,
    predictor: Predictor,
    targets: dict[str, str],
    index: "FeatureIndex",
) -> int:
    missing = {name: video for name, video in targets.items() if not index.has(name)}
    if len(missing) < len(targets):
        note(f"{len(targets) - len(missing)} of {counted(len(targets), 'video')} extracted before")
    failed = 0
    for name, video in tqdm(
        missing.items(), desc="extracting", unit="video", disable=None, leave=False
    ):
        path = Path(args.out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        windows = predictor.features(
            video,
            settings.window,
            settings.step,
            unit=settings.unit,
            fps=args.fps,
            batch_size=args.batch_size,
        )
        try:
            with atomic_write(path) as file:
                entry = write_features(file, windows, settings)
        except UnreadableVideo as error:
            failed += 1
            tqdm.write(f"error: {video}: {error.reason}")
            continue
        index.add(name, {"video": video, **entry})
    written = len(missing) - failed
    note(f"features of {counted(written, 'video')} written to {args.out}")
    if failed:
        note(f"{counted(failed, 'video')} could not be read")
    return int(failed > 0)


def write_features(
    file: IO[bytes], windows: Iterable[WindowFeatures], settings: Settings
) -> dict[str, list[float]]:
    """Write the features of a video as a ``.npy`` file, window by window.

    Returns:
        "starts" of the windows, in the unit, and "times" of their middles, in seconds.
    """
    starts = []
    times = []
    shape = ()
    file.write(bytes(_HEADER_BYTES))
    for window in windows:
        features = window.features
        if settings.pool == "time":
            features = features.mean(0)
        shape = features.shape
        file.write(np.ascontiguousarray(features, settings.dtype).tobytes())
        starts.append(round(window.start, 6))
        times.append(round(sum(window.times) / len(window.times), 6))
    file.seek(0)
    file.write(_header((len(starts), *shape), settings.dtype))
    return {"starts": starts, "times": times}


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    header = io.BytesIO()
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    if len(header.getvalue()) != _HEADER_BYTES:
        raise ValueError(f"a .npy header of {len(header.getvalue())} bytes")
    return header.getvalue()


class FeatureIndex:
    """``index.json``: the settings, and the videos whose features are complete."""

    def __init__(self, path: Path, settings: dict) -> None:
        """Read the index of an interrupted run, or begin one.

        Raises:
            UserError: the folder contains features of other settings.
        """
        self._path = path
        self._settings = settings
        self._videos: dict[str, dict] = {}
        self._saved = time.monotonic()
        if not path.exists():
            return
        try:
            content = json.loads(read_regular(path))
            known = content["settings"]
            self._videos = dict(content["videos"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not an index of features; choose another OUT") from None
        different = [key for key, value in settings.items() if known.get(key) != value]
        if different:
            key = different[0]
            raise UserError(
                f"{path}: features of other settings ({key} {known.get(key)}, now "
                f"{settings[key]}); choose another OUT"
            )

    def has(self, name: str) -> bool:
        """Whether the features of a video are complete."""
        return name in self._videos and (self._path.parent / name).exists()

    def add(self, name: str, entry: dict) -> None:
        self._videos[name] = entry
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the index, atomically."""
        content = {"format": _FORMAT, "settings": self._settings, "videos": self._videos}
        with atomic_write(self._path, "w") as file:
            json.dump(content, file, ensure_ascii=False)
        self._saved = time.monotonic()


def _targets(arguments: list[str], modality: str) -> dict[str, str]:
    """File of the features, relative to OUT -> video."""
    targets: dict[str, str] = {}
    for argument in arguments:
        root = argument if os.path.isdir(argument) else os.path.dirname(argument)
        for video in find_inputs([argument], modality):
            name = os.path.relpath(video, root or ".")
            if name == os.curdir or name.split(os.sep)[0] == os.pardir:
                name = os.path.basename(os.path.abspath(video))
            if is_video_name(name):
                name = os.path.splitext(name)[0]
            name = name.replace(os.sep, "/") + ".npy"
            other = targets.setdefault(name, video)
            if other != video:
                raise UserError(f"{other} and {video} would both become {name}; rename one")
    return targets
