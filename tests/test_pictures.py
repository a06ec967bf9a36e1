"""The pictures of a run: contact sheet of a batch, labels, confusion matrix."""

import numpy as np
import pytest
import torch
from PIL import ImageColor

from ops.report import heat
from ops.training.pictures import RunPictures, batch_sheet, confusion_picture, label_text

NAMES = ["Up", "Down", "Left"]


class Log:
    def __init__(self):
        self.images = []

    def log_image(self, step, name, image):
        self.images.append((step, name, image))


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (torch.tensor(1), "1 Down"),
        (torch.tensor([True, False, True]), "0 Up, 2 Left"),
        (torch.tensor([0.25, 0.75, 0]), "25% 0 Up, 75% 1 Down"),
    ],
)
def test_label_text(label, text):
    assert label_text(label, NAMES) == text
    assert len(label_text(torch.tensor(0), ["x" * 500])) == 100


def test_a_sheet_contains_the_middle_frame_of_each_segment():
    clips = torch.zeros(3, 4, 5 * 3, 20, 20, dtype=torch.uint8)
    for video in range(3):
        for segment in range(4):
            clips[video, segment, 2 * 3 : 3 * 3] = 50 * video + 10 * segment + 5
    sheet = np.asarray(batch_sheet(clips, ["a", "b", "c"], "RGB"))
    for video in range(3):
        for segment in range(4):
            color = 50 * video + 10 * segment + 5
            assert (sheet == color).all(axis=2).sum() >= 400, (video, segment)


@pytest.mark.parametrize("segments", [1, 8, 64])
def test_sheets_of_large_crops_are_scaled(segments):
    clips = torch.zeros(2, segments, 3, 256, 256, dtype=torch.uint8)
    sheet = batch_sheet(clips, ["a", "b"], "RGB")
    assert sheet.width <= 1700 and sheet.height < 400


def test_the_first_videos_of_a_batch_are_logged():
    log = Log()
    clips = torch.zeros(20, 2, 3, 16, 16, dtype=torch.uint8)
    RunPictures(log, "RGB", 3, None).log_first_batch(clips, torch.zeros(20, dtype=torch.int64))
    ((step, name, image),) = log.images
    assert (step, name) == (0, "first_batch") and image.height < 8 * 60


def test_confusion_matrix_is_logged():
    log = Log()
    RunPictures(log, "RGB", 3, NAMES).log_confusion(7, np.diag([3, 2, 1]))
    ((step, name, image),) = log.images
    assert (step, name, image.mode) == (7, "val/confusion", "RGB")


def area(picture, color):
    """The number of pixels of a color."""
    return int((np.asarray(picture) == ImageColor.getrgb(color)).all(axis=2).sum())


@pytest.mark.parametrize("classes", [1, 2, 12, 30, 60, 61, 400, 900])
def test_a_perfect_confusion_matrix_is_a_dark_diagonal(classes):
    names = [f"A class with a name {label}" for label in range(classes)]
    picture = confusion_picture(np.eye(classes, dtype=np.int64), names)
    dark, none = area(picture, heat.LIGHT[-1]), area(picture, heat.LIGHT[0])
    assert dark / (dark + none) == pytest.approx(1 / classes, rel=0.3)
    assert max(picture.size) <= max(1400, classes + 100)


def test_rows_of_a_confusion_matrix_are_true_classes():
    pixels = np.asarray(confusion_picture(np.array([[0, 5], [4, 6]]), ["Up", "Down"]))
    dark = (pixels == ImageColor.getrgb(heat.LIGHT[-1])).all(axis=2)
    rows, columns = np.nonzero(dark)  # all videos of the first class are predicted as the second
    light_rows, light_columns = np.nonzero((pixels == ImageColor.getrgb(heat.LIGHT[0])).all(axis=2))
    assert rows.min() == light_rows.min() and columns.min() > light_columns.max()


def test_names_that_are_not_known_are_labels():
    assert RunPictures(Log(), "RGB", 3, None).names == ["0", "1", "2"]
