"""Maps of evidence for the most confident mistakes of a test, by its own network."""

import os

import numpy as np
from PIL import Image, ImageDraw

from ops.checkpoints import load_model
from ops.data.clips import Failure
from ops.data.lists import VideoList
from ops.explain import Explanation, grad_cam, pictures_of
from ops.models import TSN
from ops.report.evidence import overlay
from ops.report.pictures import data_url, is_local
from ops.scores.metadata import ScoreMetadata
from ops.scores.protocol import Protocol
from ops.temporal import option_names
from ops.utils.errors import UserError
from ops.utils.files import sha256

_WIDTH = 416  # of a strip, pixels, about
_FEW, _MANY = 4, 8  # columns of a strip of up to 8 frames, and of a longer one
_GAP = 4
_BAR = 16  # height of the largest bar
_BLUE = (0, 114, 178)
_LINE = (160, 168, 176)


class MistakeMaps:
    """Draws what the network of a test bases a class on. Call it with (row, label).

    The clip is the one of the test, the middle one of several, and its center crop.

    Args:
        name: the score directory, for messages.
        metadata: the content of its ``scores.json``.

    Raises:
        UserError: the weights of the test do not exist or have changed, or ``scores.json`` does
            not describe the test completely.
    """

    def __init__(self, name: str, metadata: ScoreMetadata | None) -> None:
        if metadata is None or not metadata.files:
            raise UserError(
                f"--explain: {name} has no scores.json with the location of the videos; "
                "test again, or leave out --explain"
            )
        self._ids = metadata.ids
        self._files = metadata.files
        if not is_local(self._files):
            raise UserError(
                f"--explain: the videos of {name} are at {self._files['root_path']}; "
                "a report reads local videos only"
            )
        try:
            self._protocol = _protocol_of(metadata)
            self._model = _load_network(name, metadata)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"--explain: the scores.json of {name} does not describe the test ({error}); "
                "test again, or leave out --explain"
            ) from None

    def __call__(self, row: int, label: int) -> str | None:
        """The frames of a video with the evidence for a class in color.

        Args:
            row: the video.
            label: the class.

        Returns:
            A ``data:`` URL, or None if the video cannot be read.
        """
        root = self._files["root_path"]
        template = self._files["image_tmpl"]
        try:
            videos = VideoList("scores", root, [self._ids[row]], [-1], [0], range(1, 2))
            dataset = self._protocol.dataset(self._model, videos, template, "pyav")
            item = dataset[0, 0]
        except Exception:  # decoders raise many types, and the report works without a picture
            return None
        if isinstance(item, Failure):
            return None
        (clip,) = dataset.transform.crops(item.frames, item.picks[0])
        found = grad_cam(self._model, clip, label)
        return data_url(_strip(pictures_of(self._model, clip).numpy(), found), "WEBP")


def _protocol_of(metadata: ScoreMetadata) -> Protocol:
    """The middle clip of a test, with one crop."""
    protocol = metadata.protocol
    clip = metadata.clips[len(metadata.clips) // 2]
    return Protocol(
        sampling=protocol["sampling"],
        clips=(clip,),
        num_clips=protocol["clips"],
        crops=1,
        scale_size=protocol["scale_size"],
        crop_size=protocol["crop_size"],
        average=protocol["average"],
        seed=protocol["seed"],
        compat=protocol["sampling_compat"],
    )


def _load_network(name: str, metadata: ScoreMetadata) -> TSN:
    path = metadata.weights["file"]
    if not os.path.isfile(path):
        raise UserError(f"--explain: {path}, the weights of {name}, does not exist")
    if sha256(path) != metadata.weights["sha256"]:
        raise UserError(f"--explain: {path} is not the file that {name} was tested with")
    allowed = {"weights_key", *option_names()}
    given = metadata.weights.get("options", {})
    options = {key: value for key, value in given.items() if key in allowed}
    return load_model(
        path,
        metadata.protocol["num_segments"],
        module=metadata.protocol["module"],
        consensus="avg",
        quiet=True,
        **options,
    )


def _strip(pictures: np.ndarray, found: Explanation) -> Image.Image:
    """Frames in rows, the evidence in color, and below each a bar for its share; no background.

    Args:
        pictures: uint8 ``[T', H, W, 3]``.
        found: the evidence.
    """
    columns = _FEW if len(pictures) <= 2 * _FEW else _MANY
    columns = min(columns, len(pictures))
    side = _WIDTH // max(columns, _FEW) - _GAP
    rows = -(-len(pictures) // columns)
    cell_width, cell_height = side + _GAP, side + _BAR + 2 * _GAP
    strip = Image.new("RGBA", (columns * cell_width - _GAP, rows * cell_height))
    pen = ImageDraw.Draw(strip)
    plain = [Image.fromarray(np.ascontiguousarray(picture)) for picture in pictures]
    plain = np.stack([picture.resize((side, side), Image.Resampling.BICUBIC) for picture in plain])
    colored = overlay(plain, found.maps(side, side).numpy())
    shares = found.shares.tolist()
    largest = max(*shares, 1 / len(shares))
    for number, share in enumerate(shares):
        row, column = divmod(number, columns)
        x, y = column * cell_width, row * cell_height
        strip.paste(Image.fromarray(colored[number]), (x, y))
        floor = y + side + _GAP + _BAR
        top = floor - round(_BAR * share / largest)
        pen.rectangle((x, top, x + side - 1, floor), _BLUE)
        pen.line((x, floor, x + side - 1, floor), _LINE)
    return strip
