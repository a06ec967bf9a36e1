import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.lists import Record, check_files, explain_missing, read_list, resolve
from ops.utils.errors import UserError


def write(tmp_path, data, name="list.txt"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_both_forms_in_one_list(tmp_path):
    path = write(tmp_path, "a/one.mp4 0\nframes/two 12 3\n")
    videos = read_list(path, root_path="/data", num_class=4)
    assert videos.path == path and len(videos) == 2
    assert list(videos) == [
        Record("a/one.mp4", "/data/a/one.mp4", None, 0, 1),
        Record("frames/two", "/data/frames/two", 12, 3, 2),
    ]
    assert videos.labels.dtype == np.int64 and videos.labels.tolist() == [0, 3]
    assert videos[-1] == videos[1]
    for outside in (2, -3):
        with pytest.raises(IndexError):
            videos[outside]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("my video.mp4 3", ("my video.mp4", None, 3)),
        ("a b 12 3", ("a b", 12, 3)),
        ("take 12\t3", ("take 12", None, 3)),
        ("take 12\t9\t3", ("take 12", 9, 3)),
        (" padded.mp4   3 ", ("padded.mp4", None, 3)),
        ("padded   7  3", ("padded", 7, 3)),
        ("v.mp4\t 3", ("v.mp4", None, 3)),
        ("1 2 3", ("1", 2, 3)),
        ("12 3", ("12", None, 3)),
        ("naïve 视频.mp4 3", ("naïve 视频.mp4", None, 3)),
        ("a\u2028b\x85c.mp4 3", ("a\u2028b\x85c.mp4", None, 3)),  # only real line ends end a line
        ("/abs/video 3", ("/abs/video", None, 3)),
    ],
)
def test_columns(tmp_path, line, expected):
    record = read_list(write(tmp_path, line), num_class=4)[0]
    assert (record.id, record.num_frames, record.label) == expected
    assert record.path == record.id


def test_root_does_not_change_absolute_paths(tmp_path):
    assert (
        read_list(write(tmp_path, "/abs/v.mp4 0"), root_path="/data", num_class=1)[0].path
        == "/abs/v.mp4"
    )


def test_windows_text_blank_lines_and_mark(tmp_path):
    videos = read_list(
        write(tmp_path, b"\xef\xbb\xbfa.mp4 0\r\n\r\n  \r\nb.mp4 1\r\n\r\n"), num_class=2
    )
    assert [(r.id, r.label, r.line) for r in videos] == [("a.mp4", 0, 1), ("b.mp4", 1, 4)]


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        ("ok 1\nvideo.mp4 cat\n", 2, "label 'cat' is not an integer"),
        ("ok\t1\nvideo.mp4\tcat\n", 2, "label 'cat' is not an integer"),
        ("video.mp4\n", 1, "malformed"),
        ("ok 1\n\n17\n", 3, "malformed"),
        ("a\tb\tc\t1\n", 1, "malformed"),
        ("a.mp4\t10\t30\t1\n", 1, "segments are not supported"),
        ("folder\ttwelve\t1\n", 1, "malformed"),
        ("\t3\t1\n", 1, None),
        ("a.mp4 1.0\n", 1, "label '1.0' is not an integer"),
        ("a.mp4 1_0\n", 1, "not an integer"),
        ("a.mp4 ٣\n", 1, "not an integer"),
        ("a.mp4 " + "9" * 5000, 1, "not an integer"),
        ("ok 0\nb.mp4 2\n", 2, "label 2 is out"),
        ("b.mp4 -1\n", 1, "label -1 is out"),
        ("folder 0 1\n", 1, "num_frames is 0"),
        ("folder\t-5\t1\n", 1, "num_frames is -5"),
        (b"ok 0\n\xff\xfe 1\n", 2, "not UTF-8"),
        ("a.mp4 1\n".encode("utf-16"), 1, "not UTF-8"),
        (b"ok 0\na\0.mp4 1\n", 2, "not UTF-8"),
        (b"s3://bucket/k.shards/v.mp4 1\n", 1, "is a URL, and a list must not open one"),
        (b"a 1\nsimplecache::/k.shards/v 1\n", 2, "is a URL"),
    ],
)
def test_errors_name_file_and_line(tmp_path, data, line, says):
    path = write(tmp_path, data)
    if says is None:  # an empty first field is only white space before the rest
        assert read_list(path, num_class=2)[0].id == "3"
        return
    with pytest.raises(UserError) as error:
        read_list(path, num_class=2)
    text = str(error.value)
    assert text.startswith(f"{path}:{line}: ") and says in text
    assert "\n" not in text and len(text) < 400


@pytest.mark.parametrize("again", ["a.mp4 1", "./a.mp4 0", "a.mp4 30 0"])
def test_video_listed_twice_where_each_counts_once(tmp_path, again):
    path = write(tmp_path, f"a.mp4 0\nb.mp4 1\n\n{again}\n")
    assert len(read_list(path, num_class=2)) == 3
    with pytest.raises(UserError) as error:
        read_list(path, num_class=2, unique=True)
    assert str(error.value).startswith(f"{path}:4: ") and f"{path}:1" in str(error.value)


def test_segments_are_recognized_where_the_path_does_not_exist(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    text = "a.mp4 10 30 1\nb 0.5 3.25 1\nc.mp4 10 30 1\nc.mp4 1\n"
    videos = read_list(write(tmp_path, text), root_path=tmp_path, num_class=2)
    reasons = [explain_missing(record) for record in videos]
    assert "segments are not supported" in reasons[0] and reasons[1] == reasons[0]
    assert reasons[2:] == ["", ""]


def test_missing_empty_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_list(str(tmp_path / "none.txt"), num_class=2)
    with pytest.raises(UserError, match="cannot be read"):
        read_list(str(tmp_path), num_class=2)
    for empty in (b"", b"\n \r\n\t\n"):
        with pytest.raises(UserError, match="empty"):
            read_list(write(tmp_path, empty), num_class=2)


PATH = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"), min_size=1
).filter(lambda text: text == text.strip(" ") and not text.startswith("\ufeff"))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(PATH, st.none() | st.integers(1, 10**6), st.integers(0, 9)), min_size=1
    ),
    tabs=st.booleans(),
)
def test_written_lists_are_read_back(tmp_path_factory, rows, tabs):
    if not tabs:  # separated by spaces, a two-column path must not end in an integer
        rows = [
            (path + "x" if count is None else path, count, label) for path, count, label in rows
        ]
    separator = "\t" if tabs else " "
    text = "\n".join(
        separator.join(str(field) for field in row if field is not None) for row in rows
    )
    videos = read_list(write(tmp_path_factory.mktemp("lists"), text), num_class=10)
    assert [(r.id, r.num_frames, r.label) for r in videos] == rows
    assert [r.line for r in videos] == list(range(1, len(rows) + 1))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("lists"), data)
    try:
        videos = read_list(path, num_class=3)
    except UserError as error:
        assert str(error).startswith(path) and "\n" not in str(error)
    else:
        assert all(
            0 <= r.label < 3 and (r.num_frames is None or r.num_frames > 0) and r.id for r in videos
        )


def test_resolve_appends_mp4_only_if_that_file_exists(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b.mp4").touch()
    assert resolve(str(tmp_path / "a")) == str(tmp_path / "a.mp4")
    assert resolve(str(tmp_path / "a.mp4")) == str(tmp_path / "a.mp4")
    assert resolve(str(tmp_path / "b")) == str(tmp_path / "b")
    assert resolve(str(tmp_path / "c")) == str(tmp_path / "c")


def test_resolve_finds_the_folder_of_six_digits(tmp_path):
    for name in ("000123", "000456", "456"):
        (tmp_path / name).mkdir()
    for name, found in (
        ("123", "000123"),
        ("000123", "000123"),
        ("456", "456"),
        ("789", "789"),
        ("v123", "v123"),
    ):
        assert resolve(str(tmp_path / name)) == str(tmp_path / found)
    (tmp_path / "123.mp4").touch()
    assert resolve(str(tmp_path / "123")) == str(tmp_path / "123.mp4")
    videos = read_list(
        write(tmp_path, "123 8 0\n789 8 0\n0123 8 0"), root_path=str(tmp_path), num_class=1
    )
    assert [record.id for record in check_files(videos)] == ["789"]


def test_head(tmp_path):
    videos = read_list(
        write(tmp_path, "a.mp4 0\n\nb 12 2\nc d.mp4 1\n"), root_path="/data", num_class=3
    )
    for n in (1, 2, 3, 9):
        head = videos.head(n)
        assert list(head) == list(videos)[:n] and head.labels.tolist() == [0, 2, 1][:n]
        assert (head.path, head.root_path) == (videos.path, "/data")
        assert list(pickle.loads(pickle.dumps(head))) == list(head)
    assert len(videos) == 3
    for n in (0, -1):
        with pytest.raises(ValueError, match="the first"):
            videos.head(n)


def test_check_files(tmp_path):
    lines = []
    for i in range(2500):
        lines.append(f"v{i} {i % 3}")
        if i not in (0, 1234, 2499):
            (tmp_path / (f"v{i}" if i % 2 else f"v{i}.mp4")).touch()
    videos = read_list(write(tmp_path, "\n".join(lines)), root_path=str(tmp_path), num_class=3)
    assert [record.line for record in check_files(videos)] == [1, 1235, 2500]


@pytest.mark.parametrize("others", [0, 2000])  # more files beside the listed ones than are read
def test_check_files_of_large_folders(tmp_path, others):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("17.mp4", "000018", "link target"):
        (folder / name).touch()
    (folder / "link").symlink_to("link target")
    (folder / "dangling").symlink_to("gone")
    (folder / "dangling2.mp4").symlink_to("gone")
    expected = ["dangling", "dangling2", "missing", "20", "missing/v"]
    names = ["17", "18", "link", "./link", "../videos/17.mp4", *expected]
    for number in range(30):
        (folder / f"v{number}").touch()
        names.append(f"v{number}")
    for number in range(others):
        (folder / f"other{number}").touch()
    text = "".join(f"{name}\t0\n" for name in names)
    videos = read_list(write(tmp_path, text), root_path=str(folder), num_class=1)
    assert [record.id for record in check_files(videos)] == expected


def test_large_list_is_read_fast_and_kept_small(tmp_path):
    lines = (
        f"class_{i % 400}/some_video_name_{i:06d} {i % 300 + 1} {i % 400}\n" for i in range(300_000)
    )
    path = write(tmp_path, "".join(lines))
    start = time.process_time()
    videos = read_list(path, root_path="/data", num_class=400)
    assert time.process_time() - start < 3.0  # 0.7 s on the machine it was written on
    assert videos[299_999].id == "class_399/some_video_name_299999"
    assert not any(isinstance(value, (list, tuple, dict)) for value in vars(videos).values())
    packed = pickle.dumps(videos)
    assert len(packed) < os.path.getsize(path) + 25 * len(videos) + 10_000
    copy = pickle.loads(packed)
    assert [copy[i] for i in (0, 150_000, -1)] == [videos[i] for i in (0, 150_000, -1)]
