"""One small picture of a video: its middle frame."""

import base64
import os
from io import BytesIO

import numpy as np
from PIL import Image

from ops.data.lists import resolve
from ops.data.readers.open import open_reader

_WIDTH, _HEIGHT = 200, 140  # pixels at most


def middle_frame(video: str, files: dict) -> str | None:
    """A JPEG of the middle frame of ``root_path/video`` as a ``data:`` address, or None where it cannot be read.

    ``files``: root_path, image_tmpl and modality of the test. Of flow the motion along x is shown. A score directory may be a
    stranger's: what it says is at a URL is not fetched.
    """
    if "://" in files["root_path"] or "::" in files["root_path"]:
        return None
    try:
        path = resolve(os.path.join(files["root_path"], video))
        with open_reader(
            path, image_tmpl=files["image_tmpl"], modality=files["modality"]
        ) as reader:
            frame = reader.get([len(reader) // 2])[0]
        image = Image.fromarray(
            np.ascontiguousarray(frame if frame.shape[2] == 3 else frame[..., 0])
        )
        image.thumbnail((_WIDTH, _HEIGHT))
        data = BytesIO()
        image.save(data, "JPEG", quality=70)
    except Exception:  # decoders raise much, and the report is worth having without a picture
        return None
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
