"""ops/scores/metadata.py: metadata of a score directory, written and read."""

import csv
import json

import numpy as np
import pytest
from helpers.score_dirs import describe, metadata_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.scores.metadata import (
    check_same,
    protocol_line,
    read_metadata,
    write_failures,
    write_metadata,
)
from ops.utils.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), min_size=1)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(TEXT, min_size=1), st.lists(TEXT, min_size=4, max_size=4), st.booleans(), st.data())
def test_round_trip(tmp_path, ids, names, several, data):
    label = st.lists(st.integers(0, 3), min_size=1) if several else st.integers(0, 3)
    drawn = data.draw(st.lists(label, min_size=len(ids), max_size=len(ids)))
    labels = (
        np.array([[c in own for c in range(4)] for own in drawn]) if several else np.array(drawn)
    )
    metadata = metadata_of(labels, ids, failures=1, class_names=names, num_class=4, clips=[0, 3])
    write_metadata(tmp_path / "made" / "here", metadata)
    loaded = read_metadata(tmp_path / "made" / "here")
    assert loaded._replace(labels=0) == metadata._replace(labels=0)
    assert np.array_equal(loaded.labels, labels) and loaded.labels.dtype == labels.dtype
    assert loaded.read == len(ids) - 1
    check_same("x", loaded, metadata, clips=True)


def test_one_video_per_line(tmp_path):
    assert read_metadata(tmp_path) is None
    describe(tmp_path, [3, 0], ["a b", "é/1"])
    text = (tmp_path / "scores.json").read_text("utf-8")
    assert (
        text.endswith('"videos": [\n["a b", 3],\n["é/1", 0]\n]}\n')
        and json.loads(text)["protocol"]["crops"] == 3
    )


def test_failures_as_a_table(tmp_path):
    metadata = metadata_of([0, 1], ['with "quotes", and comma', "two\nlines"], failures=2)
    write_failures(tmp_path / "failures.csv", metadata.failures)
    with open(tmp_path / "failures.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["line", "id", "reason", "clips"],
        ["1", metadata.ids[0], "No such file", "0"],
        ["2", metadata.ids[1], "No such file", "0"],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 1"),
        ({"protocol": {}}, "num_segments"),
        ({"protocol": [1]}, "has no protocol"),
        ({"videos": []}, "a video"),
        ({"videos": [["a", 8]]}, "below 8"),
        ({"videos": [["a", -1]]}, "below 8"),
        ({"videos": [["a", True]]}, "below 8"),
        ({"videos": [["a", []]]}, "below 8"),
        ({"videos": [["a", 1], ["b", [1]]]}, "with one label and with several"),
        ({"videos": [[1, 1]]}, "a video"),
        ({"class_names": ["a"]}, "8 class names"),
        ({"clips": ["0"]}, "clips"),
        ({"failures": [{"row": 0}]}, "failures"),
        ({"weights": None}, "weights"),
        ({"files": {"root_path": 1}}, "files"),
        ({"failures": [{"clips": [0], "row": 9, "line": 1, "id": "a", "reason": "b"}]}, "failures"),
        ({"videos": [["a\nb", 1]]}, "row 1: the id .* line break"),
        ({"class_names": ["\ud800"] * 8}, "class name .* line break"),
        (
            {
                "protocol": {
                    "num_segments": 8,
                    "crop_size": 2,
                    "crops": 1,
                    "num_class": 8,
                    "average": "logits",
                }
            },
            "text dataset",
        ),
        (
            {
                "protocol": {
                    "num_segments": 8,
                    "crop_size": 2,
                    "crops": 1,
                    "num_class": 2**31 - 1,
                    "average": "logits",
                    "dataset": "x",
                },
                "videos": [["a", [1]]],
            },
            "too small for labels of so many classes",
        ),
    ],
)
def test_invalid_content_raises(tmp_path, change, message):
    describe(tmp_path, [1, 2])
    content = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(UserError, match=message) as error:
        read_metadata(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'scores.json'}: ") and "\n" not in str(
        error.value
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"format": 1}', "[" * 10**5, "\xff"])
def test_invalid_files_raise(tmp_path, text):
    (tmp_path / "scores.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"scores\.json: ") as error:
        read_metadata(tmp_path)
    assert "\n" not in str(error.value)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_descriptions_give_user_errors_only(tmp_path, data):
    describe(tmp_path, [[True, False] * 4, [False, True] * 4], failures=1)
    content = bytearray((tmp_path / "scores.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "scores.json").write_bytes(content)
    try:
        read_metadata(tmp_path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": 224}, "crop_size 256 -> 224"),
        ({"seed": 1}, "seed None -> 1"),
        ({"labels": [1, 3]}, "labels of the videos"),
        ({"ids": ["video 0", "other"]}, "video 2 video 1 -> other"),
        ({"labels": [1, 2, 3]}, "videos 2 -> 3"),
        ({"clips": [1]}, r"clips \[0\] -> \[1\]"),
    ],
)
def test_differences_are_named(change, message):
    with pytest.raises(UserError, match=f"^x: .*{message}"):
        check_same(
            "x", metadata_of([1, 2]), metadata_of(**{"labels": [1, 2], **change}), clips=True
        )
    other = metadata_of([1, 2], average="logits", clips=[4])
    check_same("x", metadata_of([1, 2]), other, free={"average"})
    with pytest.raises(UserError, match="average"):
        check_same("x", metadata_of([1, 2]), other)
    other = metadata_of([1, 2])._replace(weights={"file": "v.pth", "sha256": "1" * 64})
    with pytest.raises(UserError, match="weights 000000000000 -> 111111111111"):
        check_same("x", metadata_of([1, 2]), other)


def test_protocol_line():
    metadata = metadata_of(np.zeros(19796, int), failures=6)
    line = protocol_line(metadata, 10, 3, 19796, "softmax per view")
    assert line == "8 frames x 3 crops x 10 clips, 256, 19790/19796 videos, softmax per view"
    line = protocol_line(None, 10, 3, 90, "softmax per view")
    assert line == "10 clips x 3 crops, softmax per view, 90/90 videos"
    assert (
        protocol_line(None, 1, 2, 9, "max of crops") == "1 clip x 2 crops, max of crops, 9/9 videos"
    )
