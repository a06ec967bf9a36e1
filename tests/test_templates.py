import pytest

from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError


@pytest.mark.parametrize(
    ("tmpl", "folder", "modality", "files"),
    [
        ("img_{:05d}.jpg", "a/b", "RGB", ("img_00042.jpg",)),
        ("frames/{}.png", "a/b", "RGBDiff", ("frames/42.png",)),
        ("img_{zero:05d}.jpg", "a/b", "RGB", ("img_00041.jpg",)),
        ("{:06d}.jpg", "a/b", "Flow", ("000042.jpg",)),
        ("flow_{}_{zero:05d}.jpg", "a/b", "Flow", ("flow_x_00041.jpg", "flow_y_00041.jpg")),
        ("{:06d}-{}_{zero:05d}.jpg", "a/123", "Flow", ("000123-x_00041.jpg", "000123-y_00041.jpg")),
        ("flow_{}_{:05d}.jpg", "a/b", "Flow", ("flow_x_00042.jpg", "flow_y_00042.jpg")),
        ("{:06d}-{}_{:05d}.jpg", "a/000123", "Flow", ("000123-x_00042.jpg", "000123-y_00042.jpg")),
        ("{:06d}-{}_{:05d}.jpg", "a/123/", "Flow", ("000123-x_00042.jpg", "000123-y_00042.jpg")),
    ],
)
def test_file_names(tmpl, folder, modality, files):
    assert file_namer(tmpl, folder, modality)(42) == files
    assert count_places(tmpl, modality) == tmpl.count("{")


@pytest.mark.parametrize(
    "tmpl",
    [
        "img.jpg",
        "img_%05d.jpg",
        "img_{name}.jpg",
        "{:05x",
        "{0.x}.jpg",
        "{0[a]}",
        "{:05d}_{}.jpg",
        "{zero.x}.jpg",
        "{:09999d}.jpg",
        "{:.9999f}.jpg",
        "{:{}}.jpg",
        "{0.real}.jpg",
    ],
)
def test_a_template_that_names_no_frames(tmpl):
    for modality, example in (("RGB", "img_"), ("Flow", "flow_"), ("RGBDiff", "img_")):
        with pytest.raises(UserError) as error:
            count_places(tmpl, modality)
        assert str(error.value).startswith(f"--image_tmpl {tmpl!r}") and f"like {example}" in str(
            error.value
        )


def test_places_are_those_of_the_modality():
    for tmpl in ("flow_{}_{:05d}.jpg", "{:06d}-{}_{:05d}.jpg"):
        with pytest.raises(UserError, match="RGB"):
            count_places(tmpl, "RGB")
    with pytest.raises(UserError, match="Flow"):
        count_places("{}_{}_{}_{}.jpg", "Flow")


@pytest.mark.parametrize("folder", ["video", "v_12", "\u00b2", ""])
def test_a_folder_without_a_number(folder):
    with pytest.raises(UserError, match="begins with the number of the video"):
        file_namer("{:06d}-{}_{:05d}.jpg", f"root/{folder}", "Flow")
