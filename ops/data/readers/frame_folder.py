"""Videos stored as folders of images, one file per frame (two for some forms of optical flow)."""

import os
import re
from collections.abc import Callable, Set

import numpy as np

from ops.data.readers.base import Reader, UnreadableVideo
from ops.data.readers.images import decode_image
from ops.data.readers.shard_paths import StoredVideo
from ops.data.readers.templates import count_places, file_namer, number_from_zero
from ops.utils.errors import UserError

# A number in a file's name. Those of a shard set come from a table and may be of any length.
_NUMBER = re.compile("(?<![0-9])[0-9]{1,255}(?![0-9])")

FileNamer = Callable[[int], tuple[str, ...]]


def count_frames(
    folder: str | os.PathLike,
    image_tmpl: str,
    modality: str = "RGB",
    names: Set[str] | None = None,
) -> int:
    """Count the frames of a folder. Files that do not fit the template are ignored.

    Args:
        folder: the folder.
        image_tmpl: template of the names (ops/data/readers/templates.py).
        modality: "RGB", "RGBDiff" or "Flow".
        names: the files in the folder, relative to it; None: list them.

    Raises:
        UnreadableVideo: a frame is missing before a later one, or one file of a pair (x and y of
            flow) is missing; the names count from 0, but the template from 1; or the folder cannot
            be listed.
        UserError: the template cannot name the frames of this modality.
    """
    folder = os.fspath(folder)
    files_of = file_namer(image_tmpl, folder, modality)
    if names is None:
        names = _list_files(folder, files_of)
    count = 0
    while names.issuperset(files_of(count + 1)):
        count += 1
    zero_template = number_from_zero(image_tmpl)
    if count and zero_template != image_tmpl and names.issuperset(files_of(0)):
        raise UnreadableVideo(
            folder,
            f"{files_of(0)[0]} exists: frames count from 0; use the template {zero_template}",
        )
    _check_no_gap(folder, names, files_of, count)
    return count


def _list_files(folder: str, files_of: FileNamer) -> set[str]:
    """The files in the folder, or in those subfolders of it that the template names."""
    parents = {os.path.dirname(name) for name in files_of(1)}
    try:
        return {
            os.path.join(parent, name)
            for parent in parents
            for name in os.listdir(os.path.join(folder, parent))
        }
    except OSError as error:
        raise UnreadableVideo(folder, error.strerror) from None


def _check_no_gap(folder: str, names: Set[str], files_of: FileNamer, count: int) -> None:
    """Raise UnreadableVideo if there is a frame after the first `count` ones."""
    for name in sorted(names):
        for digits in _NUMBER.findall(name):
            number = int(digits)
            if number < count:
                continue
            later = max(number, count + 1)
            # Where names count from 0, frame number N + 1 is file N.
            if name not in (*files_of(later), *files_of(later + 1)):
                continue
            missing = next(file for file in files_of(count + 1) if file not in names)
            raise UnreadableVideo(folder, f"{missing} is missing, but {name} exists")


class FrameFolder(Reader):
    """A video of images: frame i is file number i + 1 of the template.

    Nothing is opened before frames are requested.
    """

    modality = "RGB"

    def __init__(
        self,
        path: str | os.PathLike,
        image_tmpl: str,
        num_frames: int,
        stored: StoredVideo | None = None,
    ) -> None:
        """Prepare to read a folder.

        Args:
            path: the folder; with `stored` only a name.
            image_tmpl: template of the names of the files.
            num_frames: number of frames.
            stored: the folder in a shard set; None: it is on the disk.

        Raises:
            UserError: the template cannot name the frames of this modality.
        """
        super().__init__(path)
        self._num_frames = num_frames
        self._stored = stored
        self._files_of = file_namer(image_tmpl, self.path, self.modality)

    def __len__(self) -> int:
        return self._num_frames

    def close(self) -> None:
        pass

    def decode(self, indices: list[int]) -> np.ndarray:
        files = [self._files_of(index + 1) for index in indices]
        contents = {}
        if self._stored is not None:  # all at once, since each read may wait for a network
            contents = self._stored.read([name for names in files for name in names])
        frames = None
        for row, names in enumerate(files):
            frame = self._decode_frame(names, contents)
            if frames is None:
                frames = np.empty((len(indices), *frame.shape), np.uint8)
            self._check_same_size(names[0], frame, "other frames are", frames[0])
            frames[row] = frame
        return frames

    def _decode_frame(self, names: tuple[str, ...], contents: dict[str, bytes]) -> np.ndarray:
        """Decode the files of one frame to ``[H, W, C]``; `contents` has those already read."""
        (name,) = names
        return decode_image(self.path, name, "RGB", contents.get(name))

    def _check_same_size(
        self, name: str, image: np.ndarray, others: str, other: np.ndarray
    ) -> None:
        if image.shape == other.shape:
            return
        height, width = image.shape[:2]
        other_height, other_width = other.shape[:2]
        raise UnreadableVideo(
            self.path, f"{name} is {width}x{height}, {others} {other_width}x{other_height}"
        )


class FlowFolder(FrameFolder):
    """Optical flow stored as images: frames uint8 ``[H, W, 2]``, x then y, where 128 is no motion.

    A frame is two gray images, or one image whose first two channels are x and y, as the template
    requires (ops/data/readers/templates.py; TSM ops/dataset.py ``_load_image``).
    """

    modality = "Flow"

    def _decode_frame(self, names: tuple[str, ...], contents: dict[str, bytes]) -> np.ndarray:
        if len(names) == 2:
            return self._decode_pair(names, contents)
        image = super()._decode_frame(names, contents)
        # The third channel of a flow image is blank.
        if np.array_equal(image[..., 0], image[..., 2]):
            raise UserError(
                f"{os.path.join(self.path, names[0])} is a gray image, so it cannot hold both x "
                f"and y; give an --image_tmpl with a place for x or y, like flow_{{}}_{{:05d}}.jpg"
            )
        return image[..., :2]

    def _decode_pair(self, names: tuple[str, ...], contents: dict[str, bytes]) -> np.ndarray:
        x_name, y_name = names
        x = decode_image(self.path, x_name, "L", contents.get(x_name))
        y = decode_image(self.path, y_name, "L", contents.get(y_name))
        self._check_same_size(y_name, y, f"{x_name} is", x)
        return np.stack([x, y], axis=-1)


def open_folder(
    path: str,
    image_tmpl: str,
    num_frames: int | None,
    modality: str,
    stored: StoredVideo | None,
) -> FrameFolder:
    """Open a folder of frames; arguments and exceptions as of ``open_reader``."""
    if num_frames is None:
        names = None if stored is None else stored.names()
        num_frames = count_frames(path, image_tmpl, modality, names)
    elif count_places(image_tmpl, modality) == 3:
        num_frames //= 2  # such lists count the files of x and y (TSM ops/dataset.py _parse_list)
    if num_frames < 1:
        raise UnreadableVideo(path, f"no frames named {image_tmpl}")
    if modality == "Flow":
        return FlowFolder(path, image_tmpl, num_frames, stored)
    return FrameFolder(path, image_tmpl, num_frames, stored)
