"""ops/report: the files that write_report leaves, read back as a program and as a browser would."""

import base64
import csv
import hashlib
import json
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest
from helpers.launch import launch
from helpers.videos import encode, textured_frames
from hypothesis import given
from hypothesis import strategies as st

from ops.report import TestResult, write_report
from ops.report.analysis import analyze
from ops.report.tables import write_predictions
from ops.scores.metrics import evaluate
from ops.utils.errors import UserError

NAMES = [
    f"Doing {word}, twice" for word in ("this", "that", "both", "neither", "either", "all", "none")
]


def made(videos=60, classes=7, seed=0, multi_label=False, **other):
    """A test with scores that are often right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(videos) % classes
    hot = np.eye(classes, dtype=bool)[labels]
    if multi_label:
        hot |= np.random.default_rng(5).random(hot.shape) < 0.2
    scores = rng.normal(size=hot.shape) + 1.5 * hot
    values = {
        "name": "runs/a",
        "protocol_line": "8 frames x 3 crops",
        "ids": [f"v{row}.mp4" for row in range(videos)],
        "class_names": NAMES[:classes],
        "probabilities": False,
        **other,
    }
    return TestResult(scores=scores, labels=hot if multi_label else labels, **values)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page_of(folder):
    """The page without its script, parsed as XML, so that an unclosed tag is found."""
    text = (folder / "report.html").read_text("utf-8")
    return ET.fromstring(
        re.sub("<script>.*</script>", "", text.removeprefix("<!DOCTYPE html>\n"), flags=re.DOTALL)
    )


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def sections_of(folder):
    return {section.find("h2").text: section for section in page_of(folder).iter("section")}


def test_results_json_has_every_test_and_the_fusion(tmp_path):
    failed = np.arange(60) == 4
    one, two = made(failed=failed), made(seed=1, name="runs/b")
    one.scores[4] = -np.eye(7)[one.labels[4]]
    fused = one._replace(name="fusion", protocol_line="1 1", scores=(one.scores + two.scores) / 2)
    write_report(tmp_path / "made" / "here", [one, two], fused)
    assert sorted(os.listdir(tmp_path / "made" / "here")) == [
        "confusion.csv",
        "confusion.png",
        "per_class.csv",
        "predictions.csv",
        "report.html",
        "results.json",
    ]
    content = json.loads((tmp_path / "made" / "here" / "results.json").read_text())
    assert content["format"] == 1 and content["unit"] == "percent" and not content["multi_label"]
    for written, tested in zip(
        [*content["tests"], content["fusion"]], (one, two, fused), strict=True
    ):
        assert (written["name"], written["protocol"], written["videos"]) == (
            tested.name,
            tested.protocol_line,
            60,
        )
        assert written["metrics"] == evaluate(tested.scores, tested.labels)
        assert written["expected_calibration_error"] == analyze(tested).calibration.error
    assert [part["failed"] for part in content["tests"]] == [1, 0]


def test_per_class_csv(tmp_path):
    labels = np.array([0, 0, 0, 2, 2])
    scores = np.eye(7)[[0, 1, 1, 2, 0]]
    tested = TestResult("d", "", scores, labels, None, NAMES, True, np.array([False] * 4 + [True]))
    tested.scores[4] = -np.eye(7)[2]
    write_report(tmp_path, [tested])
    rows = rows_of(tmp_path / "per_class.csv")
    counts = (
        "videos",
        "correct",
        "predicted",
        "precision %",
        "recall %",
        "F1 %",
        "top1 %",
        "top5 %",
    )
    mistake = ("most frequent wrong label", "its name", "its videos")
    assert [rows[0][key] for key in ("label", "class name")] == ["0", NAMES[0]]
    assert [rows[0][key] for key in counts] == [
        *("3", "1", "1", "100.0", "33.3333", "50.0"),
        *("33.3333", "100.0"),
    ]
    assert [rows[0][key] for key in mistake] == ["1", NAMES[1], "2"]
    # A class without videos that was predicted twice, and one that was not predicted either.
    assert [rows[1][key] for key in counts] == ["0", "0", "2", "0.0", "", "", "", ""]
    assert [rows[3][key] for key in counts] == ["0", "0", "0", "", "", "", "", ""]
    # The unread video is wrong, but not taken for another class.
    assert [rows[2][key] for key in counts] == [
        *("2", "1", "1", "100.0", "50.0", "66.6667"),
        *("50.0", "50.0"),
    ]
    assert [rows[2][key] for key in mistake] == ["", "", "0"]


def test_a_class_that_is_never_predicted_has_no_precision(tmp_path):
    tested = TestResult("d", "", np.eye(2)[[0, 0]], np.array([0, 1]), None, None, True)
    write_report(tmp_path, [tested])
    row = rows_of(tmp_path / "per_class.csv")[1]
    assert [row[key] for key in ("precision %", "recall %", "F1 %")] == ["", "0.0", "0.0"]


def test_confusion_csv(tmp_path):
    labels = np.array([0, 0, 0, 2, 2])
    scores = np.eye(3)[[0, 1, 1, 2, 0]]
    failed = np.array([False] * 4 + [True])
    tested = TestResult("d", "", scores, labels, None, ["a", "=b", 'c"'], True, failed)
    write_report(tmp_path, [tested])
    with open(tmp_path / "confusion.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["label", "class name", "a", "=b", 'c"', "not read"],
        ["0", "a", "1", "2", "0", "0"],
        ["1", "=b", "0", "0", "0", "0"],
        ["2", 'c"', "0", "0", "1", "1"],
    ]
    write_report(tmp_path, [tested._replace(class_names=None)])
    assert (tmp_path / "confusion.csv").read_text().splitlines()[:2] == [
        '"label","class name",0,1,2,"not read"',
        '0,"",1,2,0,0',
    ]


def test_predictions_csv(tmp_path):
    tested = made(videos=2, failed=np.array([False, True]), probabilities=True)._replace(
        scores=np.array([[0.1, 0.5, 0.15, 0, 0.05, 0.2, 0], [0, -1, 0, 0, 0, 0, 0]])
    )
    write_report(tmp_path, [tested])
    first, second = ([*row.values()] for row in rows_of(tmp_path / "predictions.csv"))
    assert first[:3] == ["v0.mp4", "0", NAMES[0]] and first[-1] == "4"
    assert first[3:9] == ["1", NAMES[1], "0.5", "5", NAMES[5], "0.2"]
    assert second == ["v1.mp4", "1", NAMES[1], *[""] * 16]
    write_report(tmp_path, [tested._replace(ids=None, class_names=None)])
    assert [*rows_of(tmp_path / "predictions.csv")[0].values()][:5] == ["1", "0", "", "1", ""]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_csv_round_trip_of_any_text(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    texts += ["=1+1", "+x", "-x", "@x", 'a"b', "a,b;c", " blank ", "a\rb", "a\r\nb", "a\nb"]
    count = len(texts)
    tested = TestResult("d", "", np.eye(count), np.arange(count), texts, texts, True)
    write_predictions(path, tested, analyze(tested))
    rows = rows_of(path)
    assert [row["video"] for row in rows] == texts and [row["top1 name"] for row in rows] == texts


def test_several_labels(tmp_path):
    tested = made(multi_label=True)
    write_report(tmp_path, [made()])
    write_report(tmp_path, [tested])
    assert not list(tmp_path.glob("confusion.*"))  # those of the first report would be wrong
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["multi_label"] and content["tests"][0]["metrics"] == evaluate(
        tested.scores, tested.labels
    )
    rows = rows_of(tmp_path / "per_class.csv")
    assert [int(row["positives"]) for row in rows] == tested.labels.sum(0).tolist()
    assert np.mean([float(row["AP %"]) for row in rows]) == pytest.approx(
        content["tests"][0]["metrics"]["map"], abs=1e-3
    )
    row = rows_of(tmp_path / "predictions.csv")[3]
    own = np.flatnonzero(tested.labels[3])
    assert row["label"] == ";".join(map(str, own)) and row["label name"] == ";".join(
        NAMES[label] for label in own
    )
    assert int(row["rank of the truth"]) == 1 + min(
        (tested.scores[3] > tested.scores[3, label]).sum() for label in own
    )
    sections = sections_of(tmp_path)
    assert "Confusions" not in sections and "mAP of samples %" in words(sections["Result"])


@pytest.mark.parametrize("multi_label", [False, True])
def test_two_tests_are_compared(tmp_path, multi_label):
    one, two = made(multi_label=multi_label), made(seed=1, multi_label=multi_label, name="runs/b")
    write_report(
        tmp_path, [one, two], one._replace(name="fusion", scores=(one.scores + two.scores) / 2)
    )
    sections = sections_of(tmp_path)
    right = [analyze(test).right for test in (one, two)]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert f"Only test 2 gets {only[1]} videos right, only test 1 {only[0]}." in words(
        sections["What changed"]
    )
    assert "fusion" in words(sections["Result"]) and "runs/b" in words(sections["Result"])
    write_report(tmp_path, [one])
    assert "What changed" not in sections_of(tmp_path)
    write_report(tmp_path, [one, one])
    assert "Both tests get the same videos right" in words(sections_of(tmp_path)["What changed"])


def test_clips_and_crops(tmp_path):
    def words_of(grid):
        write_report(tmp_path, [made(accuracy_by_view=grid)])
        return words(sections_of(tmp_path)["Clips and crops"])

    assert (
        "Prec@1 is 50.0 percent with one clip of one crop, 53.0 with 2 clips of one crop, "
        "52.0 with one clip of 3 crops, and 55.0 with all 6 views."
        in words_of(np.array([[50.0, 51, 52], [53, 54, 55]]))
    )
    assert "50.0 percent with one clip of one crop, and 60.0 with all 2 views" in words_of(
        np.array([[50.0, 60]])
    )
    assert "one view of each video" in words_of(np.array([[50.0]]))
    assert "not known" in words_of(None)


EXTREMES = {
    "one class": made(classes=1),
    "one class, none read": made(classes=1, failed=np.ones(60, bool)),
    "one video": made(videos=1),
    "none read": made(failed=np.ones(60, bool)),
    "all right": made()._replace(
        scores=np.eye(7)[np.arange(60) % 7], accuracy_by_view=np.array([[100.0, 100.0]])
    ),
    "all wrong": made()._replace(
        scores=np.eye(7)[np.arange(1, 61) % 7], accuracy_by_view=np.array([[0.0], [0.0]])
    ),
    "classes without videos": made(videos=20, classes=90, class_names=None),
    "long names": made(class_names=["x" * 200, "很长的类名" * 40, "اسم طويل" * 30, *NAMES[3:]]),
    "no ids, no names": made(ids=None, class_names=None),
    "several labels, none read": made(multi_label=True, failed=np.ones(60, bool)),
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.filterwarnings("error")
def test_extremes(tmp_path, capfd, case):
    tested = EXTREMES[case]
    if tested.failed is not None:
        tested = tested._replace(
            scores=-1.0
            * (tested.labels if tested.multi_label else np.eye(tested.classes)[tested.labels])
        )
    write_report(tmp_path, [tested])
    sections = sections_of(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert "nan" not in words(sections["Result"]).lower() and len(
        rows_of(tmp_path / "predictions.csv")
    ) == len(tested.scores)
    expected = {
        "one class": ("Confusions", "There is one class only"),
        "all right": ("Most confident mistakes", "There are none."),
        "none read": ("Calibration", "No video could be read."),
        "all wrong": ("Result", " 0.00 "),
        "classes without videos": (
            "Classes",
            "70 of 90 classes have no video here: class 20 , class 21 ,",
        ),
        "long names": ("Classes", "很长的类名" * 40),
        "no ids, no names": ("Most confident mistakes", "predicted: class"),
    }
    if case in expected:
        section, text = expected[case]
        assert text in words(sections[section])


def test_no_text_becomes_markup(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    tested = made(
        ids=[f"{evil}{row}" for row in range(60)],
        class_names=[f"{evil}{label}" for label in range(7)],
        name=evil,
        protocol_line=evil,
    )
    write_report(tmp_path, [tested])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.count("<script") == 1 and "<img" not in text
    page = page_of(tmp_path)
    assert f"predicted: {evil}" in words(page)
    heat = next(element for element in page.iter() if element.attrib.get("class") == "heat")
    assert json.loads(heat.attrib["data-names"]) == tested.class_names


def test_page_loads_nothing_from_a_network(tmp_path):
    write_report(tmp_path, [made(accuracy_by_view=np.ones((2, 3)))])
    page = page_of(tmp_path)
    for element in page.iter():
        for key, value in element.attrib.items():
            if key.split("}")[-1] in ("src", "href", "srcset", "action", "data"):
                assert value.startswith(("#", "data:image/")), (element.tag, key, value[:60])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    policy = next(
        meta.attrib["content"] for meta in page.iter("meta") if "http-equiv" in meta.attrib
    )
    script = re.search("<script>(.*)</script>", text, re.DOTALL)[1]
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sources = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy == f"{sources}; script-src 'sha256-{known}'"


def test_figures_have_labels_and_no_style_rules(tmp_path):
    write_report(tmp_path, [made(accuracy_by_view=np.array([[50.0, 51, 52], [53, 54, 55]]))])
    page, svg = page_of(tmp_path), "{http://www.w3.org/2000/svg}"
    figures = list(page.iter(f"{svg}svg"))
    assert len(figures) == 3 and all(figure.attrib["role"] == "img" for figure in figures)
    labels = [figure.attrib["aria-label"] for figure in figures]
    assert (
        "55.0 with all 6 views" in labels[0]
        and "off the diagonal" in labels[1]
        and "calibration error" in labels[2]
    )
    assert not list(page.iter(f"{svg}style"))
    drawn = [
        element.attrib["id"]
        for figure in figures
        for element in figure.iter()
        if "id" in element.attrib
    ]
    twice = [name for name, count in Counter(drawn).items() if count > 1]
    assert all(
        re.fullmatch("[mp][0-9a-f]{10}", name) for name in twice
    )  # named by their content, so they are the same


def test_same_tests_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_report(tmp_path / folder, [made(accuracy_by_view=np.array([[50.0, 51]]))])
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_frames_of_the_videos(tmp_path):
    encode(tmp_path / "-a é.mp4", textured_frames(12))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    files = {"root_path": str(tmp_path), "image_tmpl": "img_{:05d}.jpg", "modality": "RGB"}
    scores = np.eye(7)[[1, 2, 3]]
    tested = made(videos=3, ids=["-a é.mp4", "broken.mp4", "absent.mp4"], files=files)._replace(
        scores=scores
    )
    write_report(tmp_path / "out", [tested])
    cards = sections_of(tmp_path / "out")["Most confident mistakes"].findall(".//li")
    pictures = {card.find("strong").find("bdi").text: card.find("img") for card in cards}
    assert pictures["-a é.mp4"].attrib["src"].startswith("data:image/jpeg;base64,")
    assert pictures["-a é.mp4"].attrib["alt"] == "middle frame of -a é.mp4"
    assert pictures["broken.mp4"] is None and pictures["absent.mp4"] is None
    told = "No frame of these videos could be read under"
    assert told not in words(page_of(tmp_path / "out"))
    (tmp_path / "-a é.mp4").unlink()
    write_report(tmp_path / "out", [tested])
    assert f"{told} {tmp_path}." in words(page_of(tmp_path / "out"))


def test_invalid_input_raises(tmp_path):
    with pytest.raises(ValueError, match="no test"):
        write_report(tmp_path, [])
    for wrong in (
        made()._replace(labels=np.zeros(3, int)),
        made(ids=["a"]),
        made(class_names=["a"]),
        made()._replace(scores=np.zeros((60, 0))),
        made(failed=np.zeros(3, bool)),
    ):
        with pytest.raises(ValueError, match="runs/a: "):
            write_report(tmp_path / "out", [wrong])
    with pytest.raises(ValueError, match="runs/b: scores"):
        write_report(tmp_path / "out", [made(), made(videos=59, name="runs/b")])
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: the report cannot be written \(File exists\)"):
        write_report(tmp_path / "file", [made()])


def test_a_test_without_a_report_does_not_load_matplotlib():
    run = launch("-c", "import sys, ops.report; print('matplotlib' in sys.modules)")
    assert run.stdout == "False\n", run.stderr
