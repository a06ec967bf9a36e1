import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from lib.predicting.predict_inputs import find_inputs, is_frame_folder
from ops.utils.errors import UserError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("videos")
    touch(root / "b.mp4", root / "a.MKV", root / "sub" / "c d.webm", root / "notes.txt")
    touch(root / ".hidden.mp4", root / "sub" / "deep" / "e.avi")
    frames(root / "clip_7", ["img_00001.jpg", "img_00002.jpg"])
    frames(root / "pictures", ["cover.png"])
    return root


def test_a_folder_is_searched_in_order(videos):
    assert find_inputs(["videos/"]) == [
        "videos/a.MKV",
        "videos/b.mp4",
        "videos/clip_7",
        "videos/sub/c d.webm",
        "videos/sub/deep/e.avi",
    ]


def test_arguments_keep_their_order(videos):
    given = ["videos/sub", "videos/b.mp4", "videos/clip_7", "gone.mp4", "videos/b.mp4"]
    found = find_inputs(given)
    assert found == ["videos/sub/c d.webm", "videos/sub/deep/e.avi", *given[1:]]


def test_links_to_folders_are_not_followed(videos):
    os.symlink("..", videos / "sub" / "loop")
    assert "videos/sub/loop/b.mp4" not in find_inputs(["videos"])


def test_frame_folders(videos, tmp_path):
    assert is_frame_folder("videos/clip_7")
    assert not is_frame_folder("videos/pictures")
    assert not is_frame_folder("videos")
    frames(tmp_path / "zero", ["0.png", "1.png"])
    assert is_frame_folder(str(tmp_path / "zero"))
    frames(tmp_path / "flow", ["flow_x_00001.jpg", "flow_y_00001.jpg"])
    assert find_inputs([str(tmp_path / "flow")], "Flow") == [str(tmp_path / "flow")]


@pytest.mark.parametrize(
    "line, path",
    [
        ("videos/b.mp4", "videos/b.mp4"),
        ("b.mp4 3", "videos/b.mp4"),
        ("videos/b.mp4 17", "videos/b.mp4"),
        ("clip_7 2 17", "videos/clip_7"),
        ("clip_7\t2\t17,3", "videos/clip_7"),
        ("sub/c d.webm", "videos/sub/c d.webm"),
        ("sub/c d.webm 4", "videos/sub/c d.webm"),
        ("take 12 3.mp4", "videos/take 12 3.mp4"),
        ("gone.mp4", "gone.mp4"),
        ("#1 100%.mp4", "videos/#1 100%.mp4"),
    ],
)
def test_lines_of_a_list(videos, line, path):
    touch(videos / "take 12 3.mp4", videos / "#1 100%.mp4")
    (videos / "list.txt").write_text(f"\n{line}\r\n\n")
    assert find_inputs(["videos/list.txt"]) == [path]


def test_a_list_on_standard_input(videos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("videos/b.mp4\nvideos/clip_7 2 0\n"))
    assert find_inputs(["-"]) == ["videos/b.mp4", "videos/clip_7"]


def test_glob_patterns(videos):
    assert find_inputs(["videos/**/*.avi"]) == ["videos/sub/deep/e.avi"]
    touch(videos / "odd [1].mp4")
    assert find_inputs(["videos/odd [1].mp4"]) == ["videos/odd [1].mp4"]


def test_nothing_to_predict_raises(videos, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n\n")
    for argument in ("empty", "empty.txt", "none*.mp4"):
        with pytest.raises(UserError) as error:
            find_inputs([argument])
        assert argument in str(error.value)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UserError):
        find_inputs(["-"])
