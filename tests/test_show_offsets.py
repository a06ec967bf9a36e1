import re

import numpy as np
import pytest
import torch
from helpers.datasets import make_flow
from helpers.launch import call, refused
from helpers.models import saved, small_model
from helpers.videos import encode, textured_frames
from PIL import Image

from lib.pictures import offsets, offsets_figure
from ops.checkpoints import export_state_dict, save_checkpoint
from ops.temporal.interlace import TemporalInterlace

BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
T, SIZE = 4, 32


def build(**options):
    """A small TIN whose offsets and weights differ from the initial ones in two decimals."""
    model = small_model("tin", input_size=SIZE, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TemporalInterlace):
                for parameter in module.parameters():
                    parameter += torch.randn(parameter.shape, generator=generator) * 0.2
    return model


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("videos") / "clip.mp4", textured_frames(30))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tin.pth"
    save_checkpoint(path, build())
    return path


def tables(out):
    """Printed texts of each video: title and ``(block, group) -> (offset, opposite, weights)``."""
    found = {}
    for part in out.split("\n\n")[1:]:
        title, header, *lines = part.strip().splitlines()
        assert re.fullmatch(r"block +groups +offset +opposite( +w\d+)+", header)
        ends = {match.end() for match in re.finditer(r"\S+", header)}
        assert all(
            match.end() in ends for line in lines for match in re.finditer(r"[+-]?\d\.\d\d", line)
        )  # aligned
        rows = [re.fullmatch(r"(\S+) +(\d, \d) +(.+)", line).groups() for line in lines]
        found[title] = {(name, groups): values.split() for name, groups, values in rows}
    return found


def offsets_of(model, clip):
    """The numbers of the modules themselves, recorded in a forward pass."""
    caught, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, TemporalInterlace):
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, inputs, name=name: caught.__setitem__(
                        name, (module, inputs[0].clone())
                    )
                )
            )
    with torch.no_grad():
        model(clip[None])
        for handle in handles:
            handle.remove()
        rows = {}
        for name, (module, x) in caught.items():
            (places,), (weights,) = module.offsets(x)
            for group in (0, 1):
                assert torch.equal(weights[:, group], weights[:, group + 2])
                rows[
                    name.split(".before")[0].removeprefix("backbone."), f"{group + 1}, {group + 3}"
                ] = [
                    *(f"{places[g]:+.2f}" for g in (group, group + 2)),
                    *(f"{weight:.2f}" for weight in weights[:, group]),
                ]
    return rows


def test_the_numbers_printed_are_those_of_the_modules(weights, video, capsys):
    assert call("show_offsets", weights, video) == 0
    ((title, rows),) = tables(capsys.readouterr().out).items()
    assert title == f"{video}: frames 3 11 18 26 of 30, counted from 0"  # int(3.75 + 7.5 i)
    assert [name for name, _ in rows] == [name for name in BLOCKS for _ in (0, 1)]
    model = build()
    clip, frames, total = offsets.read_clip(str(video), model, "img_{:05d}.jpg")
    assert (
        clip.shape == (T, 3, SIZE, SIZE)
        and clip.dtype == torch.uint8
        and (frames, total) == ([3, 11, 18, 26], 30)
    )
    assert rows == offsets_of(model, clip)
    assert len({value for row in rows.values() for value in row[:2]}) > len(
        BLOCKS
    )  # they do differ
    assert all(float(row[0]) == -float(row[1]) for row in rows.values())


def test_a_new_module_moves_half_a_frame(video, capsys, tmp_path):
    model = small_model("tin", input_size=SIZE)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TemporalInterlace):
                module.offset_fc2.weight.zero_()
                module.weight_conv.weight.zero_()
    save_checkpoint(tmp_path / "new.pth", model)
    assert call("show_offsets", tmp_path / "new.pth", video) == 0
    ((_, rows),) = tables(capsys.readouterr().out).items()
    assert set(map(tuple, rows.values())) == {("+0.50", "-0.50", *["1.00"] * T)}


def test_several_videos(weights, video, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, frame in enumerate(textured_frames(9, seed=5), start=1):
        Image.fromarray(frame).save(frames / f"{number:03d}.png")
    assert call("show_offsets", weights, video, frames, "--image_tmpl", "{:03d}.png") == 0
    both = tables(capsys.readouterr().out)
    assert list(both) == [
        f"{video}: frames 3 11 18 26 of 30, counted from 0",
        f"{frames}: frames 1 3 5 7 of 9, counted from 0",
    ]
    first, second = both.values()
    assert first.keys() == second.keys() and first != second
    assert call("show_offsets", weights, frames, "--image_tmpl", "{:03d}.png") == 0
    assert list(tables(capsys.readouterr().out).values()) == [
        second
    ]  # no trace of the video before it


def test_a_published_layout_and_a_temporal_pool(video, tmp_path, capsys):
    published = saved(tmp_path, {"state_dict": export_state_dict(build(), "tin")})
    assert call("show_offsets", published, video) == 0
    assert "layout: tin" in capsys.readouterr().out
    save_checkpoint(tmp_path / "pool.pth", build(temporal_pool=True))
    assert call("show_offsets", tmp_path / "pool.pth", video) == 0
    ((_, rows),) = tables(capsys.readouterr().out).items()
    assert {name: len(values) - 2 for (name, _), values in rows.items()} == {
        name: T if name.startswith("layer1") else T // 2 for name in BLOCKS
    }


def test_flow(tmp_path, capsys):
    make_flow(tmp_path, [("a", 1)], size=64, frames=20)
    save_checkpoint(tmp_path / "flow.pth", build(modality="Flow"))
    assert (
        call(
            "show_offsets",
            tmp_path / "flow.pth",
            tmp_path / "a",
            "--image_tmpl",
            "flow_{}_{:05d}.jpg",
            "--out",
            tmp_path / "flow.png",
        )
        == 0
    )
    assert "frames 2 6 10 14 of 20" in capsys.readouterr().out and (tmp_path / "flow.png").exists()


def test_the_picture(weights, video, tmp_path, capsys):
    out = tmp_path / "offsets.PNG"
    assert call("show_offsets", weights, video, video, "--out", out) == 0
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    upper, lower = np.split(pixels, 2)
    assert np.array_equal(upper, lower)
    model = build()
    clip, _, _ = offsets.read_clip(str(video), model, "")
    blocks = offsets.find_offsets(model, clip)
    height = offsets_figure.ROW * len(blocks)
    rows = upper[-height - offsets_figure.MARGIN : -offsets_figure.MARGIN].reshape(
        len(blocks), offsets_figure.ROW, -1, 3
    )
    strip = offsets_figure.CELL * T
    for row, (_, places, values) in zip(rows, blocks, strict=True):
        for side in (0, 1):  # the upper left pixel of a cell has its color alone, red above 1
            left = row.shape[1] - (strip + offsets_figure.MARGIN) * (2 - side)
            cells = row[1, left + 1 : left + 1 + strip : offsets_figure.CELL].astype(int)
            excess = values[:, side].numpy() - 1
            assert ((cells[:, 0] > cells[:, 2]) == (excess > 0))[abs(excess) > 0.01].all()
        filled = (
            (row[10] == offsets_figure.BLUE).all(1).nonzero()[0]
        )  # group 2, unless a dot lies over it
        place = (
            offsets_figure.MARGIN
            + offsets_figure.NAME
            + offsets_figure.AXIS * (float(places[1]) + 2) / 4
        )
        assert abs(filled - place).min() <= 4.5
    assert f"written {out}" in capsys.readouterr().out


def test_invalid_arguments_are_refused(weights, video, tmp_path, capsys):
    other = tmp_path / "tsm.pth"
    save_checkpoint(other, small_model("tsm", input_size=SIZE))
    assert "tsm.pth: a tsm" in refused(capsys, "show_offsets", other, video)
    assert "a PNG is written" in refused(capsys, "show_offsets", weights, video, "--out", "x.jpg")
    assert "cannot be written" in refused(
        capsys, "show_offsets", weights, video, "--out", tmp_path / "none" / "x.png"
    )
    assert "no such file" in refused(capsys, "show_offsets", weights, tmp_path / "none.mp4").lower()
    (tmp_path / "empty").mkdir()
    assert "give a video file, or a folder" in refused(
        capsys, "show_offsets", weights, tmp_path / "empty"
    )
