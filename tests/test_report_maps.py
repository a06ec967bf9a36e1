"""ops/report/maps.py: the evidence of mistakes (pkl_to_results.py --report --explain)."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.launch import call, refused
from helpers.models import randomize_norms, small_model
from helpers.videos import encode, textured_frames
from PIL import Image

from ops.checkpoints import save_checkpoint

VIDEOS = 4


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A folder with videos, weights, and the scores of a test whose answers are all wrong."""
    folder = tmp_path_factory.mktemp("tested")
    model = randomize_norms(small_model("tdn", num_class=2, input_size=32))
    with torch.no_grad():
        model.head.weight.fill_(0.01)
        model.head.bias.copy_(torch.tensor([0.0, 1.0]))  # class 1 is always predicted
    save_checkpoint(folder / "tdn.pth", model, class_names=["one", "two"])
    for number in range(VIDEOS):
        encode(folder / f"v{number}.mp4", textured_frames(12, seed=number))
    (folder / "val.txt").write_text("".join(f"v{number}.mp4 0\n" for number in range(VIDEOS)))
    (folder / "classes.txt").write_text("one\ntwo\n")
    arguments = ("--root_path", folder, "--class_names", folder / "classes.txt")
    status = call(
        "test_models_center_crop",
        *("mine", *arguments, "--val_list", folder / "val.txt", "--weights", folder / "tdn.pth"),
        *("--test_crops", 3, "-j", 0, "--output_dir", folder / "scores"),
    )
    assert status == 0
    return folder


def pictures_in(page):
    """The pictures of the cards of a page, as arrays ``[H, W, 4]``."""
    urls = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', page.read_text("utf-8"))
    return [np.asarray(Image.open(BytesIO(base64.b64decode(url))).convert("RGBA")) for url in urls]


def test_mistakes_show_their_evidence(tested, tmp_path):
    (tested / "v1.mp4").rename(tested / "away.mp4")
    try:
        assert call("pkl_to_results", tested / "scores", "--report", tmp_path, "--explain") == 0
    finally:
        (tested / "away.mp4").rename(tested / "v1.mp4")
    page = tmp_path / "report.html"
    pictures = pictures_in(page)
    assert len(pictures) == VIDEOS - 1  # one cannot be read any more
    for picture in pictures:
        assert picture.shape[1] > 4 * 80
        assert np.ptp(picture[..., :3].astype(int), axis=2).max() > 60  # not only gray
        assert (picture[..., 3] == 0).any()
    assert "evidence for two" in page.read_text("utf-8")
    assert call("pkl_to_results", tested / "scores", "--report", tmp_path) == 0
    assert not pictures_in(page)


def test_what_cannot_be_explained_is_refused(tested, tmp_path, capsys):
    scores = tested / "scores"
    report = ("--report", tmp_path, "--explain")
    assert "--report" in refused(capsys, "pkl_to_results", scores, "--explain")
    assert "--explain" in refused(capsys, "pkl_to_results", scores, scores, *report)
    content = (tested / "tdn.pth").read_bytes()
    try:
        (tested / "tdn.pth").write_bytes(content + b"x")
        assert "tdn.pth" in refused(capsys, "pkl_to_results", scores, *report)
        (tested / "tdn.pth").unlink()
        assert "tdn.pth" in refused(capsys, "pkl_to_results", scores, *report)
    finally:
        (tested / "tdn.pth").write_bytes(content)
    metadata = (scores / "scores.json").read_text()
    try:
        (scores / "scores.json").write_text(metadata.replace('"sampling"', '"other"'))
        assert "sampling" in refused(capsys, "pkl_to_results", scores, *report)
        (scores / "scores.json").unlink()
        assert "scores.json" in refused(capsys, "pkl_to_results", scores, *report)
    finally:
        (scores / "scores.json").write_text(metadata)
    assert not (tmp_path / "report.html").exists()
