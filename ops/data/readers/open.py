"""Open the reader of a video: a video file, a folder of frames, or either in a shard set."""

import os
from collections.abc import Callable

from ops.data.readers.base import Opener, Reader, check_file
from ops.data.readers.frame_folder import open_folder
from ops.data.readers.shard_paths import find
from ops.utils.errors import UserError


def open_pyav(path: str | os.PathLike, opener: Opener | None = None) -> Reader:
    """Exact frames through PyAV (FFmpeg); only what the requested frames need is decoded."""
    from ops.data.readers.pyav import PyAVReader

    return PyAVReader(path, opener)


def open_decord(path: str | os.PathLike, opener: Opener | None = None) -> Reader:
    """Frames through decord, always decoded from the start."""
    from ops.data.readers.decord import DecordReader

    return DecordReader(path, opener)


def open_torchcodec(path: str | os.PathLike, opener: Opener | None = None) -> Reader:
    """Frames of mov, mp4, matroska and webm files through torchcodec."""
    from ops.data.readers.torchcodec import TorchcodecReader

    return TorchcodecReader(path, opener)


# --decoder NAME -> the function that opens a video file. Its arguments are the path and, for a
# video in a shard set, a function that opens the content. Each function imports its library when
# it is called: `--help` stays fast, and a decoder that is not used need not be installed.
DECODERS: dict[str, Callable[..., Reader]] = {
    "pyav": open_pyav,
    "decord": open_decord,
    "torchcodec": open_torchcodec,
}


def open_reader(
    path: str | os.PathLike,
    *,
    image_tmpl: str,
    num_frames: int | None = None,
    decoder: str = "pyav",
    modality: str = "RGB",
) -> Reader:
    """Open a folder of frames or a video file, on the disk or in a shard set.

    Args:
        path: the folder or file; a path into a shard set is resolved by
            ops/data/readers/shard_paths.py.
        image_tmpl: template of the names of a folder's files (ops/data/readers/templates.py).
        num_frames: number of frames of a folder, as the list gives it; None: count the files. The
            frames of a video file are always counted by the decoder. For flow with a three-place
            template this is the number of files, twice that of frames (TSM ops/dataset.py
            ``_parse_list``).
        decoder: key of ``DECODERS``, for video files.
        modality: "RGB" and "RGBDiff" read images, frames ``[H, W, 3]``; "Flow" reads optical flow,
            frames ``[H, W, 2]``.

    Raises:
        UnreadableVideo: the file cannot be decoded, or the folder has no frames.
        UserError: flow is requested from a video file, or the template does not name the frames.
    """
    path = os.fspath(path)
    stored = find(path)
    is_folder = os.path.isdir(path) if stored is None else stored.is_folder
    if is_folder:
        return open_folder(path, image_tmpl, num_frames, modality, stored)
    if modality == "Flow":
        if stored is None:
            check_file(path)  # a missing file is reported as such
        raise UserError(
            "flow is not read from a video file; extract it to a folder of images, and list that"
        )
    opener = None if stored is None else stored.opener()
    return DECODERS[decoder](path, opener)
