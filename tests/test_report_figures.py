"""ops/report: escaping, the heat map, curves and frames."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from helpers.videos import encode, textured_frames
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image

from ops.report import heat
from ops.report.analysis import Calibration
from ops.report.markup import clean, columns, shorten
from ops.report.pictures import middle_frame
from ops.report.plots import reliability_plot, views_plot


@given(st.text())
def test_text_is_escaped_and_comes_back(value):
    svg = heat.heat_map(np.array([[1, 0], [0, 1]]), ["a", "b"], value)
    shown = ET.fromstring(svg).attrib["aria-label"]
    # XML reads a line break in an attribute as a blank.
    expected = re.sub("\r\n|[\n\r\t]", " ", clean(value))
    assert shown == expected


def test_characters_that_html_cannot_hold():
    assert clean("a\0b\x1b\x85\ud800c\n\t") == "a\ufffdb\ufffd\ufffd\ufffdc\n\t"
    assert clean(Markup("<b>\0</b>")) == "<b>\0</b>"
    assert clean(3) == 3


@given(st.text(), st.integers(1, 30))
def test_shorten(name, width):
    short = shorten(name, width)
    assert max(columns(short), default=0) <= max(width, 1)
    assert short == name or (
        short.endswith("…") and name.startswith(short[:-1]) and columns(name)[-1] > width
    )


def test_wide_characters_take_two_columns():
    assert (
        shorten("很长的类名", 10) == "很长的类名"
        and shorten("很长的类名", 9) == "很长的类…"
        and columns("a很") == [1, 3]
    )


def pixels(svg, theme):
    address = next(
        element.attrib["href"] for element in svg.iter() if element.attrib.get("class") == theme
    )
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")
    )


def rgb(colour):
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


@pytest.mark.parametrize("classes", [2, 8, 30, 60, 174, 400, 1000])
def test_the_heat_map_shows_shares_of_rows(classes):
    confusion = np.diag(np.full(classes, 97))
    confusion[0, 1], confusion[1] = 3, 0
    names = [f"<{label}>" for label in range(classes)]
    svg = ET.fromstring(heat.heat_map(confusion, names, "in words"))
    assert svg.attrib["aria-label"] == "in words"
    assert 60 <= float(svg.attrib["width"]) <= 1200 and classes * heat.cell_size(classes) < float(
        svg.attrib["width"]
    )
    for theme, colours in (("light", heat.LIGHT), ("dark", heat.DARK)):
        picture = pixels(svg, theme)
        assert picture.shape == (classes, classes, 3)
        assert picture[0, 0].tolist() == rgb(colours[7]) and picture[0, 1].tolist() == rgb(
            colours[2]
        )  # 97 %, 3 %
        assert (picture[1] == rgb(colours[0])).all()  # a class without videos
    labels = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert (labels.count("<0>") == 2) == (classes <= 80) and ("97" in labels) == (classes <= 30)
    assert [0, 1, 3] in json.loads(svg.attrib["data-cells"]) and json.loads(
        svg.attrib["data-videos"]
    )[0] == 100
    assert heat.has_names(classes) == (classes <= 80)


def test_levels_of_colour():
    row = np.array([[0, 1, 19, 20, 49, 50, 99, 100, 199, 200, 399, 400, 699, 700, 1000, 0]])
    shares = row / 1000
    total = np.zeros((16, 16), np.int64)
    for column, share in enumerate(shares[0]):  # a row each, in which column 0 has the rest
        total[column, 1 if share else 0], total[column, 0] = (
            round(1000 * share),
            1000 - round(1000 * share),
        )
    found = heat.levels(total)[np.arange(15), 1]
    assert found.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]


def test_lightness_of_the_colours_goes_one_way():
    def lightness(colours):
        return [
            0.2126 * red + 0.7152 * green + 0.0722 * blue
            for red, green, blue in (
                [(part / 255) ** 2.2 for part in rgb(colour)] for colour in colours
            )
        ]

    assert lightness(heat.LIGHT) == sorted(lightness(heat.LIGHT), reverse=True)
    assert lightness(heat.DARK) == sorted(lightness(heat.DARK))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "grid, crops",
    [
        (np.linspace(50, 60, 30).reshape(10, 3), ["1 crop", "2 crops", "3 crops"]),
        (np.linspace(50, 60, 20).reshape(2, 10), ["1 crop", "4 crops", "7 crops", "10 crops"]),
        (np.array([[50.0, 60, 65]]), []),
    ],
)
def test_the_curve_of_views(grid, crops):
    svg = ET.fromstring(views_plot(grid, 'a "b" <c>'))
    labels = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert svg.attrib["aria-label"] == 'a "b" <c>'
    assert [label for label in labels if "crop" in label and "of" not in label] == crops
    assert ("clips of each video" in labels) == (len(grid) > 1) and (
        "crops of each video" in labels
    ) == (len(grid) == 1)
    assert "currentColor" in ET.tostring(svg, "unicode")  # the ink is that of the page


def test_what_a_user_sets_in_matplotlib_changes_nothing():
    drawn = views_plot(np.array([[50.0, 60, 65]]), "x")
    with matplotlib.rc_context(
        {"text.usetex": True, "font.size": 33, "svg.fonttype": "path", "figure.facecolor": "red"}
    ):
        assert views_plot(np.array([[50.0, 60, 65]]), "x") == drawn
        assert matplotlib.rcParams["font.size"] == 33


@pytest.mark.filterwarnings("error")
def test_the_reliability_curve():
    count = np.zeros(15, np.int64)
    count[[4, 14]] = 3, 5
    with np.errstate(invalid="ignore"):
        curve = Calibration(count, count / count * 0.3, count / count * 0.5, 20.0)
    svg = reliability_plot([("test 1", curve), ("fusion", curve)], "words")
    labels = [
        element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"test 1", "fusion", "perfect calibration", "confidence in percent"} <= set(labels)


def test_the_middle_frame(tmp_path):
    frames = textured_frames(13, 360, 480)
    encode(tmp_path / "a.mp4", frames)
    (tmp_path / "flow").mkdir()
    for axis in "xy":
        Image.new("L", (40, 30), 200 if axis == "x" else 10).save(
            tmp_path / "flow" / f"flow_{axis}_00001.jpg"
        )
    address = middle_frame(
        "a", {"root_path": str(tmp_path), "image_tmpl": "img_{:05d}.jpg", "modality": "RGB"}
    )
    picture = Image.open(
        io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")))
    )
    assert picture.format == "JPEG" and picture.size == (187, 140)
    expected = np.stack(
        [np.asarray(Image.fromarray(frame).resize(picture.size), np.int64) for frame in frames]
    )
    differences = np.abs(expected - np.asarray(picture)).mean((1, 2, 3))
    assert differences.argmin() == 6
    address = middle_frame(
        "flow", {"root_path": str(tmp_path), "image_tmpl": "flow_{}_{:05d}.jpg", "modality": "Flow"}
    )
    picture = Image.open(
        io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")))
    )
    assert picture.mode == "L" and abs(np.asarray(picture).mean() - 200) < 3


def test_no_frame_of_what_cannot_be_read(tmp_path):
    files = {"root_path": str(tmp_path), "image_tmpl": "img_{:05d}.jpg", "modality": "RGB"}
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "folder").mkdir()
    assert [middle_frame(video, files) for video in ("broken.mp4", "folder", "absent", "a\0b")] == [
        None
    ] * 4
    assert middle_frame("folder", {**files, "image_tmpl": "no place"}) is None
