"""ops/utils/files.py: after anything that can go wrong, the old file is there whole."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from ops.checkpoints.torch_file import read_checkpoint
from ops.data.class_names import read_class_names
from ops.data.dataset_files import read_dataset_file
from ops.data.lists import read_list
from ops.data.readers.shards import ShardSet
from ops.scores.metadata import read_metadata
from ops.scores.npz_file import load_npz
from ops.scores.pickle_file import load_scores
from ops.training.logger import RunLog
from ops.training.run_dir import latest_checkpoint
from ops.utils.errors import UserError
from ops.utils.files import (
    atomic_write,
    is_web_page,
    open_regular,
    read_regular,
    remove_stale_temporaries,
    sha256,
)


@pytest.mark.parametrize("mode, content", [("wb", b"\0\r\n\xff"), ("w", "caf\u00e9\n")])
def test_writes_and_replaces(tmp_path, mode, content):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path, mode) as file:
        file.write(content)
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_keeps_only_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_killed_process_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = """if True:
        import sys, time
        from ops.utils.files import atomic_write, remove_stale_temporaries
        with atomic_write(sys.argv[1]) as file:
            file.write(b"new" * 100_000)
            file.flush()
            print("written", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"old" and len(os.listdir(tmp_path)) == 2
    remove_stale_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["a.bin"]


def test_only_temporary_files_of_processes_that_are_gone_are_removed(tmp_path):
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"new")
        (mine,) = tmp_path.iterdir()
        host = mine.name.removeprefix("a.bin.").rpartition(f"-{os.getpid()}-")[0]
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        stale = [f"b.pkl.{host}-{ended.pid}-0123abcd.tmp", f".c.{host}-{ended.pid}-0123abcd.tmp"]
        old = [
            "d.pth.elsewhere-1-0123abcd.tmp",
            "d.pth.89abcdef.tmp",
        ]  # the latter of earlier versions
        kept = [
            "e.pth.elsewhere-1-0123abcd.tmp",  # perhaps still being written
            "e.pth.89abcdef.tmp",
            "notes.tmp",
            f"f.{host}-{ended.pid}-0123abcd.tmp.bak",
            f"g.{host}-{ended.pid}-0123ABCD.tmp",
        ]
        for name in (*stale, *old, *kept):
            (tmp_path / name).touch()
        (tmp_path / f"h.{host}-{ended.pid}-0123abcd.tmp").mkdir()
        for name in old:
            os.utime(tmp_path / name, (0, 0))
        remove_stale_temporaries(tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {mine.name, *kept, f"h.{host}-{ended.pid}-0123abcd.tmp"}
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_readers_never_see_a_part(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0" * 100_000)
    code = """if True:
        import sys
        from ops.utils.files import atomic_write, remove_stale_temporaries
        for digit in "123456789" * 10:
            with atomic_write(sys.argv[1], "w") as file:
                for _ in range(10):
                    file.write(digit * 10_000)
    """
    with subprocess.Popen([sys.executable, "-c", code, path]) as process:
        end = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < end:
            text = path.read_text()
            assert len(text) == 100_000 and len(set(text)) == 1
    assert process.returncode == 0 and path.read_text()[0] == "9"


def test_permissions_follow_the_umask_and_links_stay(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "real" / "a.bin")
    old = os.umask(0o027)
    try:
        with atomic_write(link) as file:
            file.write(b"new")
    finally:
        os.umask(old)
    assert link.is_symlink() and (tmp_path / "real" / "a.bin").read_bytes() == b"new"
    assert stat.S_IMODE(link.stat().st_mode) == 0o640


def test_wrong_mode_and_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="mode"), atomic_write(tmp_path / "a", "a"):
        pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "no" / "a"):
        pass
    assert os.listdir(tmp_path) == []


def make_special(path, kind):
    """What is no regular file, and has no end or waits for ever."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a fifo":
        os.mkfifo(f"{path}.fifo")
        path.symlink_to(f"{path}.fifo")
    elif kind == "link to zeros":
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["fifo", "link to a fifo", "link to zeros", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = make_special(tmp_path / "a.txt", kind)
    start = time.perf_counter()
    for read in (open_regular, read_regular):
        with pytest.raises(OSError) as caught:
            read(path)
        assert caught.value.filename == str(path) and caught.value.strerror
    with pytest.raises(UserError, match=r"a\.txt: cannot be read"):
        sha256(path)
    assert time.perf_counter() - start < 1


def test_regular_files_and_links_to_them_are_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\r\n")
    (tmp_path / "link").symlink_to(tmp_path / "a.bin")
    assert read_regular(tmp_path / "link") == b"\0\r\n"
    with open_regular(tmp_path / "a.bin") as file:
        assert file.read() == b"\0\r\n"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_too_large_file_is_not_read(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="too large"):
        read_regular(tmp_path / "sparse")


READERS = {
    "list": lambda path: read_list(str(path), num_class=3),
    "class names": lambda path: read_class_names(str(path)),
    "dataset": lambda path: read_dataset_file(str(path)),
    "scores": load_scores,
    "npz scores": load_npz,
    "scores.json": lambda path: read_metadata(path.parent),
    "checkpoint": read_checkpoint,
    "checkpoint of a run": lambda path: latest_checkpoint(path.parent),
    "shard set": lambda path: ShardSet(str(path.parent)),
    "log of a run": lambda path: RunLog(path.parent, is_main=True),
}
NAMES = {
    "scores.json": "scores.json",
    "checkpoint of a run": "last.pth",
    "shard set": "index.tsv",
    "log of a run": "log.jsonl",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["fifo", "link to zeros"])
def test_what_a_user_names_is_read_only_if_regular(tmp_path, reader, kind):
    folder = tmp_path / "k.shards"
    folder.mkdir()
    path = make_special(folder / NAMES.get(reader, "a.txt"), kind)
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        READERS[reader](path)
    assert time.perf_counter() - start < 5
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"<!DOCTYPE html>\n<html>", True),
        (b"\n <!-- comment --> <HEAD>", True),
        (b'<?xml version="1.0"?>', True),
        (b"PK\x03\x04<html>", False),
        (b"v.mp4 0\n", False),
        (b"", False),
        (b" " * 600 + b"<html>", False),
    ],
)
def test_is_web_page(start, expected):
    assert is_web_page(start) == expected
