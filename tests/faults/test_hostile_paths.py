"""Names out of files from strangers become names of files only inside the output directory."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.launch import call
from helpers.score_dirs import describe
from helpers.videos import encode, textured_frames

from ops.scores.npz_file import save_npz
from ops.scores.pickle_file import save_scores

pytestmark = pytest.mark.slow


def tree(folder, *without):
    """Everything in and below a folder: kind, size, times and where links lead to."""
    found = {}
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(here, name) not in without]
        for name in (*folders, *files):
            facts = os.lstat(path := os.path.join(here, name))
            found[path] = (
                facts.st_mode,
                facts.st_size * (name not in folders),
                facts.st_mtime_ns * (name not in folders),
            )
    return found


ODD = ["C:\\x.mp4", "-v.mp4", "é\u2028.mp4", "~.mp4", "$HOME.mp4", f"{'x' * 240}.mp4", "; x.mp4"]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, textured_frames(4, 32, 32))
    return path


@pytest.fixture
def world(tmp_path, video, monkeypatch):
    """``root`` with videos of odd names and links that lead out of it, and a video ``outside``."""
    for folder in ("root/a", "outside/inner", "work"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "root/v.mp4",
        "root/a/v.mp4",
        "outside/secret.mp4",
        "outside/inner/secret.mp4",
        "root/failures.csv.mp4",
        *(f"root/{name}" for name in ODD),
    ):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "root" / "link").symlink_to("../outside")
    (tmp_path / "root" / "link.mp4").symlink_to("../outside/secret.mp4")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


IDS = [
    "../outside/secret.mp4",
    "a/../../outside/secret.mp4",
    "{}/outside/secret.mp4",
    "link/secret.mp4",
    "link/inner/secret.mp4",
    "link.mp4",
    "link/../outside/secret.mp4",
    "link/../v.mp4",
    "a/../v.mp4",
    "./v.mp4",
    ".",
    "..",
    "/",
    "//",
    "v.mp4/..",
    "none/../../../x",
    "simplecache::file://{}/x.shards/v",
    "failures.csv.mp4",
    *ODD,
]
TOOLS = {
    "extract_frames": ["out"],
    "resize_videos": ["out"],
    "make_shards": ["--out", "out.shards"],
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", IDS)
def test_lists(world, capsys, tool, name):
    (world / "list.txt").write_text(f"{name.format(world)}\t0\n")
    out = world / "work" / TOOLS[tool][-1]
    before = tree(world, out)
    given = [world / "list.txt"] if tool == "make_shards" else ["--list", world / "list.txt"]
    status = call(tool, *given, "--root_path", world / "root", "-j", 1, *TOOLS[tool])
    said = capsys.readouterr()
    assert status in (None, 0, 1, 2) and "Traceback" not in said.err
    assert tree(world, out) == before
    if status == 2:
        assert len([line for line in said.err.split("\n") if "error: " in line]) == 1
    assert not any(map(os.path.islink, tree(out)))


def test_a_list_of_all(world):
    """Together, so that something is made, each in its place."""
    (world / "list.txt").write_text(
        "".join(f"{name}\t0\n" for name in [*ODD, "link/secret.mp4", "v.mp4"])
    )
    out = world / "work" / "out"
    before = tree(world, out)
    assert call(
        "extract_frames",
        "--list",
        world / "list.txt",
        "--root_path",
        world / "root",
        "out",
        "-j",
        1,
    ) in (None, 0)
    places = {str(path.parent.relative_to(out)) for path in out.rglob("img_00004.jpg")}
    assert (
        places == {*(name.removesuffix(".mp4") for name in ODD), "link/secret", "v"}
        and tree(world, out) == before
    )


NAMES = [
    "../../x",
    "/etc/x",
    "C:\\x",
    "a/../../../x",
    "x" * 5000,
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "..",
    "é\u2028",
    "; rm -rf /",
    "%00",
    "$(touch x)",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["scores.json", "npz"])
def test_ids_and_class_names_of_scores(world, capsys, kind, name):
    ids, classes = [name, f"{name}2"], [f"{name} {label}" for label in range(8)]
    scores = np.linspace(0, 1, 16, dtype=np.float32).reshape(2, 8)
    source = world / "scores"
    if kind == "npz":
        source = world / "scores.npz"
        save_npz(source, scores[:, None, None], np.array([0, 3]), ids)
    else:
        save_scores(source / "0_crop0.pkl", scores, np.array([0, 3]))
        describe(source, [0, 3], ids, class_names=classes, clips=[0], dataset=name, crops=1)
        content = json.loads((source / "scores.json").read_text())
        content["files"] = {"list": name, "root_path": name, "image_tmpl": name, "modality": name}
        (source / "scores.json").write_text(json.dumps(content))
    (world / "classes.json").write_text(json.dumps(classes))
    out = world / "work" / "report"
    before = tree(world, out)
    status = call(
        "pkl_to_results",
        source,
        "--report",
        "report",
        "--csv_file",
        "report/x.csv",
        "--class_names",
        world / "classes.json",
    )
    said = capsys.readouterr()
    assert status in (None, 0, 2) and "Traceback" not in said.err
    assert tree(world, out) == before
    made = {path.name for path in out.rglob("*")}
    written = {"report.html", "results.json", "per_class.csv", "predictions.csv", "x.csv"}
    assert made <= written | {"confusion.csv", "confusion.png"}
    if status != 2:
        assert "<script>alert" not in (out / "report.html").read_text()


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\rb", "\ud800", ""])
def test_ids_that_no_line_holds(world, capsys, name):
    save_scores(world / "scores" / "0_crop0.pkl", np.ones((1, 8), np.float32), np.array([0]))
    describe(world / "scores", [0], ["a"], clips=[0], crops=1)
    path = world / "scores" / "scores.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "videos": [[name, 0]]}))
    assert call("pkl_to_results", world / "scores", "--report", "report") == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (world / "work" / "report").exists()
