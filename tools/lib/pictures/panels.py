"""Pictures that consist of panels, one below the other."""

from pathlib import Path

import numpy as np
from PIL import Image

from ops.utils.errors import UserError
from ops.utils.files import atomic_write


def check_png(path: Path) -> None:
    """Raises UserError unless the file given by ``--out`` has the suffix of a PNG."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: a PNG is written; give a name that ends with .png")


def save_panels(path: Path, panels: list[Image.Image]) -> None:
    """Write panels of the same width to a PNG file, one below the other.

    Raises:
        UserError: the file cannot be written.
    """
    picture = Image.fromarray(np.concatenate([np.asarray(panel) for panel in panels]))
    try:
        with atomic_write(path) as file:
            picture.save(file, "PNG")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"--out {path}: cannot be written ({reason}); give another FILE.png"
        ) from None
