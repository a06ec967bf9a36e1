import csv
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.launch import call, refused
from helpers.models import small_model
from helpers.videos import encode

from ops.checkpoints import save_checkpoint
from ops.data.readers.stream import open_stream
from ops.scores.spans import Span

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from lib.pictures.annotated_video import write_annotated
from lib.predicting.timeline_output import write_srt, write_vtt

NAMES = ["dark <b>", "bright & \u202e --> 走"]
SPANS = [Span(0, 1.2345, 0, 0.9, NAMES[0]), Span(3661.5, 3662.9996, 1, 0.515, NAMES[1])]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Three seconds, dark but for the second one, with half a second of audio."""
    frames = np.zeros((90, 66, 88, 3), np.uint8)
    frames[30:60] = 240
    return encode(tmp_path_factory.mktemp("video") / "v.mp4", frames, audio=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network whose class is decided by its bias: the first one, everywhere."""
    import torch

    model = small_model("tsn", num_class=2, input_size=32)
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([3.0, 0.0])
    path = tmp_path_factory.mktemp("weights") / "tsn.pth"
    save_checkpoint(path, model, class_names=NAMES)
    return path


def predict(*args):
    return call("predict", *args, "--device", "cpu", "-j", 0, "--timeline")


def test_all_outputs(video, weights, tmp_path, capsys):
    names = ("jsonl", "csv", "srt", "vtt", "html", "video")
    outs = {name: tmp_path / f"out.{'mkv' if name == 'video' else name}" for name in names}
    flags = [text for name, path in outs.items() for text in (f"--{name}", path)]
    assert predict(video, "--weights", weights, "--window", 0.5, "--step", 0.25, *flags) == 0
    out, err = capsys.readouterr()
    assert str(video) in out and "32" in err
    (line,) = outs["jsonl"].read_text().splitlines()
    span = json.loads(line)
    assert span["name"] == NAMES[0] and span["label"] == 0 and span["error"] is None
    assert span["start"] == 0 and span["end"] == pytest.approx(3, abs=0.02)
    assert span["probability"] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    (row,) = csv.DictReader(outs["csv"].open(newline=""))
    assert row["name"] == NAMES[0] and row["path"] == str(video)
    assert "00:00:00,000 --> 00:00:03,000" in outs["srt"].read_text()
    assert outs["vtt"].read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n")
    page = outs["html"].read_text()
    assert "dark &lt;b&gt;" in page and "<b>" not in page
    assert "default-src" in page and "<script" not in page and "data:image/jpeg;base64," in page
    with av.open(str(outs["video"])) as written:
        assert [stream.type for stream in written.streams] == ["video", "audio"]


def test_several_videos_and_one_that_cannot_be_read(video, weights, tmp_path):
    out = tmp_path / "out.jsonl"
    assert predict(video, "gone.mp4", video, "--weights", weights, "--jsonl", out) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(video), "gone.mp4", str(video)]
    assert [line["error"] is None for line in lines] == [True, False, True]


def test_invalid_flags_raise(video, weights, tmp_path, capsys):
    for flags in (
        ["--timeline", "--video", tmp_path / "out.avi"],
        ["--timeline", "--video", video],
        ["--timeline", "--enter", 0.2, "--stay", 0.4],
        ["--timeline", video, "--srt", tmp_path / "out.srt"],
        ["--timeline", "--clips", 2],
        ["--timeline", "--test_sampling", "dense"],
        ["--timeline", "--topk", 2],
        ["--srt", tmp_path / "out.srt"],
    ):
        refused(capsys, "predict", video, *flags, "--weights", weights, "--device", "cpu")
    assert video.stat().st_size > 1000


def test_subtitles(tmp_path):
    write_srt(tmp_path / "a.srt", SPANS)
    write_vtt(tmp_path / "a.vtt", SPANS)
    srt = (tmp_path / "a.srt").read_text("utf-8")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,234\n" + NAMES[0])
    assert "\n2\n01:01:01,500 --> 01:01:03,000\n" in srt
    vtt = (tmp_path / "a.vtt").read_text("utf-8")
    assert vtt.count("-->") == 2 and "<b>" not in vtt


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("fps", [30, 25])
def test_annotated_video(tmp_path, suffix, fps):
    frames = np.full((60, 65, 97, 3), 200, np.uint8)
    source = encode(tmp_path / "v.mp4", frames, fps=fps, pix_fmt="yuv444p", audio=True)
    target = tmp_path / f"labelled.{suffix}"
    with open_stream(source, image_tmpl="") as stream:
        write_annotated(str(target), stream, [Span(20 / fps, 40 / fps, 0, 0.9, "running")])
    with av.open(str(target)) as written, av.open(str(source)) as read:
        assert written.streams.video[0].average_rate == fps
        images = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
        written.seek(0)
        packets = [bytes(packet) for packet in written.demux(audio=0) if packet.size]
        expected = [bytes(packet) for packet in read.demux(audio=0) if packet.size]
    assert len(images) == 60 and images[0].shape == (64, 96, 3)
    assert len(packets) >= len(expected) - 1 and set(packets) <= set(expected)
    bands = np.stack([image[-10:] for image in images])
    labelled = np.zeros(60, bool)
    labelled[20:40] = True
    assert (np.abs(bands[~labelled].astype(int) - 200) < 12).all(), "no label before and after"
    assert (bands[labelled].min((1, 2, 3)) < 100).all(), "the band is dark"
    assert (bands[labelled].max((1, 2, 3)) > 200).all(), "and the text is bright"
    above = np.stack([image[:-16] for image in images])
    assert (np.abs(above.astype(int) - 200) < 12).all(), "the picture above stays"


def test_annotated_video_keeps_variable_times_and_rotation(tmp_path):
    pts = np.cumsum(np.random.default_rng(0).integers(300, 4000, 30)).tolist()
    frames = np.full((30, 64, 96, 3), 90, np.uint8)
    source = encode(tmp_path / "v.mp4", frames, pts=pts, bframes=0, rotation=90)
    with open_stream(source, image_tmpl="") as stream:
        write_annotated(str(tmp_path / "out.mkv"), stream, [])
    with open_stream(source, image_tmpl="") as stream:
        expected = [frame.time for frame in stream]
    with open_stream(tmp_path / "out.mkv", image_tmpl="") as stream:
        found = [(frame.time, frame.image().shape) for frame in stream]
    assert [time for time, _ in found] == pytest.approx(expected, abs=2e-3)
    assert found[0][1] == (96, 64, 3)
