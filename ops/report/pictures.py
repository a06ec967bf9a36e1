"""Pictures of a page: a thumbnail of a video, its middle frame."""

import base64
import os
from io import BytesIO

import numpy as np
from PIL import Image

from ops.data.lists import resolve
from ops.data.readers.open import open_reader

_WIDTH, _HEIGHT = 200, 140  # pixels at most
_QUALITY = 70


def middle_frame(video: str, files: dict) -> str | None:
    """The middle frame of a video.

    A score directory may come from a stranger, so nothing is loaded from a URL.

    Args:
        video: path below ``root_path``.
        files: ``root_path``, ``image_tmpl`` and ``modality`` of the test.

    Returns:
        A ``data:`` URL of a JPEG (of the motion along x for flow), or None if the video cannot be
        read.
    """
    if not is_local(files):
        return None
    try:
        path = resolve(os.path.join(files["root_path"], video))
        with open_reader(
            path, image_tmpl=files["image_tmpl"], modality=files["modality"]
        ) as reader:
            frame = reader.get([len(reader) // 2])[0]
        if frame.shape[2] != 3:
            frame = frame[..., 0]
        image = Image.fromarray(np.ascontiguousarray(frame))
    except Exception:  # decoders raise many types, and the report works without a frame
        return None
    image.thumbnail((_WIDTH, _HEIGHT))
    return data_url(image, "JPEG")


def is_local(files: dict) -> bool:
    """Whether the videos of a test are not at a URL; files as of ``middle_frame``."""
    return "://" not in files["root_path"] and "::" not in files["root_path"]


def data_url(image: Image.Image, kind: str) -> str:
    """A ``data:`` URL of an image, as a "JPEG" or, if parts are transparent, as "WEBP"."""
    data = BytesIO()
    image.save(data, kind, quality=_QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
