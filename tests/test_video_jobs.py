import argparse
import csv
import errno
import json
import os
import signal
from pathlib import Path

import pytest

from lib.arguments import add_video_flags
from lib.videos.video_jobs import Job, atomic_folder, find_jobs, run
from ops.utils.errors import UserError


def find(*flags, **kwargs):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_video_flags(parser, "results")
    return find_jobs(parser.parse_intermixed_args(list(map(str, flags))), **kwargs)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_folder(tmp_path):
    src = touch(
        tmp_path / "src",
        "b/v.mp4",
        "b/v.1.AVI",
        "a b/größe 视频.webm",
        "-x.mkv",
        "b/notes.txt",
        ".hidden/v.mp4",
        "b/._v.mp4",
    )
    (src / "b" / "again").symlink_to(src)  # never ends if followed
    (touch(tmp_path / "elsewhere", "far.mov") / "deep").mkdir()
    (src / "linked").symlink_to(tmp_path / "elsewhere")
    jobs = find("-j", 3, src, tmp_path / "out")
    names = {
        str(Path(job.source).relative_to(src)): str(Path(job.target).relative_to(tmp_path / "out"))
        for job in jobs
    }
    assert names == {
        "b/v.mp4": "b/v",
        "b/v.1.AVI": "b/v.1",
        "a b/größe 视频.webm": "a b/größe 视频",
        "-x.mkv": "-x",
        "linked/far.mov": "linked/far",
    }
    assert {job.target[-4:] for job in find(src, tmp_path / "out", result_suffix=".mp4")} == {
        ".mp4"
    }


def test_folders_of_frames(tmp_path):
    src = touch(
        tmp_path / "src",
        "a/v.mp4/img_00001.jpg",
        "a/w/img_00001.jpg",
        "a/other/00001.jpg",
        "a/z.mp4",
    )
    jobs = find(src, tmp_path / "out", frames_tmpl="img_{:05d}.jpg")
    assert [(job.source, job.target) for job in jobs] == [
        (str(src / "a" / name), str(tmp_path / "out" / "a" / name)) for name in ("v.mp4", "w")
    ]
    one = find(src / "a" / "w", tmp_path / "out", frames_tmpl="img_{:05d}.jpg")
    assert [job.target for job in one] == [str(tmp_path / "out" / "w")]


def test_list(tmp_path):
    root = touch(tmp_path / "videos", "a/v.mp4", "w x.avi", "frames/img_00001.jpg")
    (tmp_path / "list.txt").write_text("a/v 7\nw x.avi 3\na/v.mp4 1\nmissing.mp4 2\nframes 12 3\n")
    jobs = find(tmp_path / "out", "--list", tmp_path / "list.txt", "--root_path", root)
    assert [os.path.relpath(job.source, root) for job in jobs] == [
        "a/v.mp4",
        "w x.avi",
        "missing.mp4",
        "frames",
    ]
    assert [os.path.relpath(job.target, tmp_path / "out") for job in jobs] == [
        "a/v",
        "w x",
        "missing",
        "frames",
    ]
    (tmp_path / "list.txt").write_text("a/v.mp4 7\n../elsewhere.mp4 0\n")
    with pytest.raises(UserError, match=r"elsewhere\.mp4 is not in .*videos; give a --root_path"):
        find("--list", tmp_path / "list.txt", "--root_path", root, tmp_path / "out")


def test_source_can_be_one_video(tmp_path):
    src = touch(tmp_path / "src", "a/v.mp4", "a/w.mp4")
    jobs = find(src / "a/v.mp4", src / "out")
    assert jobs == [Job(str(src / "a/v.mp4"), str(src / "out/v"))]


def test_system_folders_are_ignored_and_every_readable_kind_is_found(tmp_path):
    names = ("v.gif", "w.f4v", "x.h264", "y.265", "z.MP4")
    junk = ("__MACOSX/v.mp4", "@eaDir/v.mp4", ".hidden/v.mp4", "a/.v.mp4", "a/notes.txt")
    src = touch(tmp_path / "src", *(f"a/{name}" for name in names), *junk)
    jobs = find(src, tmp_path / "out")
    assert [os.path.relpath(job.source, src) for job in jobs] == [f"a/{name}" for name in names]


@pytest.mark.parametrize(
    "names, words",
    [
        (["a/v.mp4", "a/v.avi"], "a/v.avi and .*a/v.mp4 would both become .*out/a/v; rename"),
        (
            ["a.mp4", "a/v.mp4"],
            "a/v.mp4 would be written into .*out/a, the result of .*a.mp4; rename",
        ),
        (
            ["failures.csv.mp4"],
            "failures.csv.mp4 would become .*out/failures.csv, a name that this command uses",
        ),
        (["notes.txt"], "no video in it or below it"),
    ],
)
def test_refused_folders(names, words, tmp_path):
    with pytest.raises(UserError, match=words):
        find(touch(tmp_path / "src", *names), tmp_path / "out")


def test_refused_flags(tmp_path):
    src = touch(tmp_path / "src", "v.mp4")
    for out in (src, src / "frames", tmp_path / "x" / ".." / "src" / "y"):
        with pytest.raises(UserError, match=r"is inside of .*; give another OUT"):
            find(src, out)
    for flags, words in (
        ([src, tmp_path / "out", "--list", "l"], "either SRC .* or --list"),
        (["out"], "either"),
        ([src, tmp_path / "out", "-j", 0], "-j 0 is too small"),
        ([tmp_path / "no", "out"], "no: No such file"),
        (["--list", "no.txt", "out"], "no.txt: no such"),
    ):
        with pytest.raises(UserError, match=words):
            find(*flags)


ERRORS = {
    "full": (errno.ENOSPC, "No space left on device"),
    "long.mp4": (errno.ENAMETOOLONG, "File name too long"),
}


def copy(job):
    """Work: the result holds the name of its source."""
    name = os.path.basename(job.source)
    if "bad" in name:
        raise UserError("not good")
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if name.split()[0] in ERRORS:
        raise OSError(*ERRORS[name.split()[0]])
    if "nested" in name:
        run("copy", Path(job.target).parent, [], copy, {}, 1)
    with atomic_folder(job.target) as folder:
        for part in range(3):
            Path(folder, str(part)).write_text(name)


@pytest.fixture
def start(tmp_path):
    """A function that runs ``copy`` on videos of these names."""

    def run_on(*names, out=tmp_path / "out", **arguments):
        return run("copy", out, find(touch(tmp_path / "src", *names), out), copy, arguments, 2)

    return run_on


def test_run_completes_an_earlier_one(start, tmp_path, capfd):
    out = tmp_path / "out"
    assert start("a/1.mp4", "2.mp4", "bad, really.mp4", size=3) == 1
    assert capfd.readouterr().out == (
        f"{out}: 2 videos done, 0 already there, 1 failed and are listed in {out}/failures.csv\n"
    )
    rows = list(csv.reader((out / "failures.csv").open()))
    assert rows == [["video", "reason"], [str(tmp_path / "src" / "bad, really.mp4"), "not good"]]
    assert json.loads((out / ".copy.json").read_text()) == {"size": 3}
    leftover = touch(
        out,
        "a/.0a1b2c3d.tmp/0",
        "9.mp4.0123abcd.tmp",
        "a/9.mp4.elsewhere-1-0123abcd.tmp",
        "a/notes.tmp",
    )
    times = {path: path.stat().st_mtime_ns for path in (out / "a/1", out / "2")}
    (tmp_path / "src" / "bad, really.mp4").unlink()
    assert start("3.mp4", size=3) == 0
    assert "1 video done, 2 already there, 0 failed\n" in capfd.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert sorted(path.name for path in leftover.rglob("*")) == sorted(
        [".copy.json", "1", "2", "3", "a", "notes.tmp", *"012" * 3]
    )
    with pytest.raises(
        UserError,
        match=r"holds results of other arguments \(size 3 -> 4, fast None -> True\); give",
    ):
        start(size=4, fast=True)
    (out / ".copy.json").write_text("[")
    with pytest.raises(UserError, match=r"copy\.json: not a file"):
        start(size=3)


def test_results_of_other_programs_are_kept(start, tmp_path):
    touch(tmp_path / "out", "2/img_00001.jpg")
    with pytest.raises(UserError, match=r"out/2 exists and was not made by this command"):
        start("c/1.mp4", "2.mp4")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["2"]


def test_death_of_a_process_fails_one_video(start, tmp_path):
    assert start("1.mp4", "killed.mp4", "3.mp4", "4.mp4", "5.mp4") == 1
    out = tmp_path / "out"
    assert (out / "failures.csv").read_text().splitlines()[1:] == [
        f"{tmp_path / 'src' / 'killed.mp4'},the process that worked on it was killed by SIGKILL"
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        ".copy.json",
        "1",
        "3",
        "4",
        "5",
        "failures.csv",
    ]


def test_full_disk_ends_the_run_and_a_long_name_does_not(start, tmp_path):
    with pytest.raises(
        UserError,
        match=r"/out: No space left on device; .*/out must be writable",
    ):
        start("bad.mp4", *(f"full {number}.mp4" for number in range(30)))
    assert not list((tmp_path / "out").glob("full*")) and not list((tmp_path / "out").glob("*.tmp"))
    for path in (tmp_path / "src").iterdir():
        path.unlink()
    assert start("1.mp4", "long.mp4", "3.mp4") == 1
    assert (
        "OSError: [Errno 36] File name too long" in (tmp_path / "out" / "failures.csv").read_text()
    )
    assert (tmp_path / "out" / "3").exists()


def test_one_run_at_a_time(start, tmp_path, capfd):
    """A second run, within the work of a first, is refused."""
    assert start("nested.mp4") == 1
    assert (
        f"{tmp_path / 'out'}: another run is writing there; wait for it, or give another OUT"
        in capfd.readouterr().err
    )


def test_out_that_cannot_be_written(start, tmp_path):
    touch(tmp_path, "file")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match=r"file.*; .* must be writable"):
            start("1.mp4", out=out)


def test_atomic_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_folder(str(tmp_path / "v")) as folder:
        Path(folder, "1").touch()
        assert not (tmp_path / "v").exists()
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
