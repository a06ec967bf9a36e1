import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.file_server import file_server
from helpers.launch import ROOT, call, refused, start_tool, wait_until
from helpers.models import small_model
from helpers.videos import encode, textured_frames

sys.path.insert(0, str(ROOT / "tools"))

from lib.live.camera import Camera
from lib.live.display import open_window
from lib.live.output import Recorder
from lib.live.sources import CAMERA, FILE, NETWORK, SourceError, find_source, parse_source
from ops.checkpoints import save_checkpoint
from ops.data.readers.stream import FrameStream, StreamedFrame, VideoStream
from ops.utils.errors import UserError

NAMES = ["waving", "No gesture"]
RATE = 30  # frames per second of the videos


class ScriptedStream(FrameStream):
    """Gives the frames that a test puts into its queue; an exception is raised, None is the end."""

    def __init__(self):
        super().__init__("scripted")
        self.frames = queue.Queue()
        self.is_closed = False

    def put(self, *numbers):
        for number in numbers:
            self.frames.put(number)

    def __iter__(self):
        while (number := self.frames.get(timeout=60)) is not None:
            if isinstance(number, Exception):
                raise number
            image = np.full((2, 2, 3), number, np.uint8)
            yield StreamedFrame(number, number / RATE, lambda image=image: image)

    def close(self):
        self.is_closed = True


class LoopedFile(FrameStream):
    """A video file as a camera that never ends."""

    def __init__(self, path):
        super().__init__(path)
        self.laps = 0

    def __iter__(self):
        while True:
            with VideoStream(self.path) as video:
                yield from video
            self.laps += 1

    def close(self):
        pass


def numbers_of(frames):
    return [int(frame.image[0, 0, 0]) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds: dark in the first, bright in the second."""
    frames = textured_frames(60, 64, 80) // 8
    frames[30:] += 200
    return encode(tmp_path_factory.mktemp("video") / "two.mp4", frames)


def save_network(folder, module, **options):
    """A network that sees waving in bright frames, and no gesture in dark ones."""
    model = small_model(module, num_class=2, input_size=32, **options)
    with torch.no_grad():
        bright, dark = (
            model.features(torch.full((1, 4, 3, 32, 32), value, dtype=torch.uint8)).mean(1)[0]
            for value in (215, 15)
        )
        direction = bright - dark
        model.head.weight[:] = torch.stack([direction, -direction]) * 20 / direction.square().sum()
        model.head.bias[:] = -(model.head.weight @ (bright + dark) / 2)
    path = folder / f"{module}.pth"
    save_checkpoint(path, model, class_names=NAMES)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A causal network of `save_network`."""
    return save_network(tmp_path_factory.mktemp("weights"), "tsm", shift_direction="past")


def live(source, weights, *flags):
    return call("live", "--source", source, "--weights", weights, "--device", "cpu", *flags)


def events_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# The camera.


def test_a_slow_consumer_gets_the_latest_frames():
    stream = ScriptedStream()
    with Camera(lambda: stream, "scripted", print, keep=3) as camera:
        stream.put(*range(100))
        wait_until(lambda: camera.captured == 100)
        assert numbers_of(camera.take(0)) == [97, 98, 99]
        assert camera.take(0.01) == []
        stream.put(100)
        assert numbers_of(camera.take(30)) == [100]
        stream.put(None)


def test_a_looped_file_as_the_camera(video):
    stream = LoopedFile(video)
    with Camera(lambda: stream, "looped", print) as camera:
        frames = []
        while stream.laps < 2:
            frames += camera.take(30)
            time.sleep(0.005)  # a slow consumer
        assert camera.lost == 0 and camera.captured > len(frames)
    times = [frame.seconds for frame in frames]
    assert times == sorted(times) and frames[0].image.shape == (64, 80, 3)


def test_a_camera_that_dies_is_opened_again():
    streams = [ScriptedStream(), ScriptedStream(), ScriptedStream()]
    failures = [SourceError("no such camera")] * 3
    opened = iter([streams[0], *failures, streams[1], streams[2]])
    notes = []

    def open_stream():
        found = next(opened)
        if isinstance(found, SourceError):
            raise found
        return found

    camera = Camera(open_stream, "scripted", notes.append, first_delay=0.05, longest_delay=0.2)
    with camera:
        streams[0].put(1, OSError(19, "No such device"))
        assert [(frame.connection, *numbers_of([frame])) for frame in camera.take(30)] == [(0, 1)]
        wait_until(lambda: not camera.is_connected)
        assert camera.take(0.01) == []
        begin = time.monotonic()
        streams[1].put(2, None)
        (frame,) = camera.take(30)
        # The attempts are after 0.05, 0.1, 0.2 and, at most, 0.2 s.
        assert time.monotonic() - begin > 0.4
        assert (frame.connection, *numbers_of([frame])) == (1, 2)
        streams[2].put(3)
        assert camera.take(30)[0].connection == 2
        assert camera.lost == 2 and streams[0].is_closed and streams[1].is_closed
        streams[2].put(None)
    assert "No such device" in notes[0] and "no such camera" in notes[1]
    assert len([note for note in notes if "is back" in note]) == 2
    assert len(notes) == 5  # repeated failures are not repeated


def test_a_camera_that_is_not_there_raises():
    def open_stream():
        raise SourceError("no such camera")

    with pytest.raises(SourceError), Camera(open_stream, "scripted", print):
        pass


def test_a_file_has_its_own_pace_and_an_end(video):
    begin = time.monotonic()
    with Camera(lambda: VideoStream(video), "file", print, paced=True) as camera:
        times = []
        while not camera.has_ended:
            times += [frame.seconds for frame in camera.take(1)]
    assert time.monotonic() - begin >= 59 / RATE
    assert times[-1] == pytest.approx(59 / RATE) and camera.lost == 0


def test_a_defect_of_the_thread_is_raised_where_frames_are_taken():
    stream = ScriptedStream()
    with Camera(lambda: stream, "scripted", print) as camera:
        stream.put(ZeroDivisionError("a defect"))
        with pytest.raises(ZeroDivisionError):
            camera.take(30)


# Sources.


def test_sources(video, monkeypatch):
    assert parse_source(str(video)).kind == FILE
    address = parse_source("rtsp://admin:secret@camera.local/1")
    assert (address.kind, address.name) == (NETWORK, "rtsp://admin:***@camera.local/1")
    assert "secret" in address.path
    assert "file" not in dict(address.options)["protocol_whitelist"]
    assert parse_source("/dev/video3").kind == CAMERA
    expected = {
        "linux": ("v4l2", "/dev/video1"),
        "darwin": ("avfoundation", "1:none"),
    }
    for platform, (kind, path) in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        camera = parse_source("1", "640x480")
        assert (camera.kind, camera.format, camera.path) == (CAMERA, kind, path)
        assert dict(camera.options)["video_size"] == "640x480"
    monkeypatch.setattr(sys, "platform", "aix")
    with pytest.raises(UserError, match="aix"):
        parse_source("1")


def test_an_address_is_read(video):
    with file_server(video.read_bytes()) as server:
        source = find_source(server.url)
        with source.open() as stream:
            assert len(list(stream)) == 60
    with pytest.raises(SourceError, match="refused"):
        source.open()


def test_invalid_sources_are_refused(weights, capsys):
    def error_of(source, *flags):
        return refused(capsys, "live", "--source", source, "--weights", weights, *flags)

    assert "/dev/video97" in error_of("97") and "camera" in error_of("97")
    assert "missing.mp4" in error_of("missing.mp4")
    assert "conftest.py" in error_of(Path(__file__).parent / "conftest.py")
    assert "--realtime" in error_of("rtsp://localhost/1", "--realtime")
    assert "--camera_size" in error_of(weights, "--camera_size", "640x480")


# The command.


def test_events_of_a_file(video, weights, tmp_path, capsys):
    lines, record = tmp_path / "events.jsonl", tmp_path / "seen.mkv"
    assert live(video, weights, "--jsonl", lines, "--record", record) == 0
    begin, end = events_of(lines)
    assert (begin["type"], end["type"]) == ("begin", "end")
    for event in (begin, end):
        assert (event["name"], event["label"]) == ("waving", 0) and "clock" not in event
        assert 1.0 <= event["start"] < 1.6
    assert begin["end"] is None and end["end"] == pytest.approx(23 / 12, abs=0.06)
    assert 0.25 <= begin["probability"] <= end["probability"] <= 1
    out, err = capsys.readouterr()
    assert out.count("waving") == 2 and "24 results" in err and "frame by frame" in err
    with av.open(str(record)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 60 and frames[0].shape == (64, 80, 3)
    assert frames[20].max() < 100 and frames[55][-10:].min() < 100 < frames[55][:10].min()


def test_a_file_in_real_time(video, weights, tmp_path, capsys):
    lines = tmp_path / "events.jsonl"
    assert live(video, weights, "--realtime", "--jsonl", lines) == 0
    assert [event["name"] for event in events_of(lines)] == ["waving", "waving"]
    assert "latency" in capsys.readouterr().err


def test_windows_of_a_network_that_is_not_causal(video, tmp_path, capsys):
    path = tmp_path / "tam.pth"
    save_checkpoint(path, small_model("tam", num_class=2, input_size=32))
    flags = ("--window", 0.5, "--step", 0.25, "--on", 0, "--jsonl", tmp_path / "events.jsonl")
    assert live(video, path, *flags) == 0
    err = capsys.readouterr().err
    assert "windows of 0.5 s every 0.25 s" in err and "7 results" in err and "label" in err
    assert events_of(tmp_path / "events.jsonl")[0]["name"] is None


def test_smoothing_flags(video, weights, tmp_path):
    def events(*flags):
        assert live(video, weights, "--jsonl", tmp_path / "events.jsonl", *flags) == 0
        return [event["name"] for event in events_of(tmp_path / "events.jsonl")]

    assert events("--idle", "waving", "no gesture") == []
    assert events("--idle")[0] == "No gesture"
    assert events("--hold", 5) == []
    assert events("--rule", "demo") == ["waving", "waving"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--window", 2), "--window"),
        (("--idle", "jumping"), "jumping"),
        (("--rule", "demo", "--hold", 1), "--hold"),
        (("--on", 0.2, "--off", 0.3), "--off"),
        (("--record", "seen.avi"), "seen.avi"),
        (("--record", "missing/seen.mp4"), "missing"),
        (("--jsonl", "missing/events.jsonl"), "missing"),
    ],
    ids=str,
)
def test_invalid_flags_are_refused(video, weights, capsys, flags, name):
    error = refused(capsys, "live", "--source", video, "--weights", weights, *flags)
    assert name in error


def test_the_source_is_not_overwritten(video, weights, capsys):
    before = video.read_bytes()
    flags = ("--source", video, "--weights", weights, "--record", video)
    assert "--record" in refused(capsys, "live", *flags)
    assert video.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_complete_files(weights, tmp_path, number):
    frames = np.full((60 * RATE, 64, 80, 3), 215, np.uint8)
    long = encode(tmp_path / "minute.mp4", frames, options={"preset": "ultrafast"})
    lines, record = tmp_path / "events.jsonl", tmp_path / "seen.mp4"
    flags = ("--source", long, "--realtime", "--weights", weights, "--device", "cpu")
    process = start_tool("live", *flags, "--jsonl", lines, "--record", record)
    try:
        assert "waving" in process.stdout.readline()  # while it runs, not at its end
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err and "results" in err
    assert [event["type"] for event in events_of(lines)] == ["begin", "end"]
    with av.open(str(record)) as container:
        assert 5 < len(list(container.decode(video=0))) < 60 * RATE


@pytest.mark.slow
def test_a_lost_address_ends_its_event_and_comes_back(video, weights, tmp_path):
    """The end of a file at an address counts as a lost camera, which is opened again."""
    lines = tmp_path / "events.jsonl"
    with file_server(video.read_bytes()) as server:
        flags = ("--source", server.url, "--weights", weights, "--device", "cpu", "--no_window")
        flags += ("--fps", "30", "--hold", "0", "--tau", "0", "--jsonl", lines)
        process = start_tool("live", *flags)
        try:
            wait_until(lambda: lines.exists() and len(events_of(lines)) >= 4, seconds=120)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "is lost" in err and "is back" in err
    assert [event["type"] for event in events_of(lines)][:4] == ["begin", "end"] * 2
    assert "clock" in events_of(lines)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "options"), [("tsn", {}), ("tsm", {"shift_direction": "past"})])
def test_an_exported_step_has_the_events_of_its_checkpoint(video, tmp_path, module, options):
    pytest.importorskip("onnxruntime")
    weights = save_network(tmp_path, module, **options)
    exported = tmp_path / "network.onnx"
    flags = ("--weights", weights, "--to", "onnx", "--stream", "--out", exported)
    assert call("export", *flags) == 0
    events = []
    for name in (weights, exported):
        assert live(video, name, "--jsonl", tmp_path / "events.jsonl") == 0
        events.append(events_of(tmp_path / "events.jsonl"))
    for expected, found in zip(*events, strict=True):
        assert found == {
            **expected,
            "probability": pytest.approx(expected["probability"], abs=1e-4),
        }


# Outputs.


def test_a_recorded_video_keeps_its_size_and_its_times(tmp_path):
    path = tmp_path / "seen.mp4"
    bright = np.full((50, 70, 3), 255, np.uint8)
    bright.setflags(write=False)
    with Recorder(str(path)) as recorder:
        recorder.write(bright, 10.0, "waving")
        recorder.write(bright[:30, :30], 10.5, "")  # a camera that came back smaller
        recorder.write(bright, 10.5, "")  # no later than the frame before
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.5, 0.5], abs=0.01)
    assert {(frame.width, frame.height) for frame in frames} == {(70, 50)}


def test_nothing_is_recorded_without_a_frame(tmp_path):
    with Recorder(str(tmp_path / "seen.mp4")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_window_can_open_before_pyav_is_imported():
    """OpenCV waits forever for X11 where PyAV was imported first."""
    code = "import lib.live.display, lib.live.sources, sys; sys.exit('av' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_without_a_display_there_is_no_window(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("other platforms always have a display")
    notes = []
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert open_window(notes.append) is None and notes == []
    monkeypatch.setitem(sys.modules, "cv2", None)  # not installed
    monkeypatch.setenv("DISPLAY", ":0")
    assert open_window(notes.append) is None
    assert len(notes) == 1 and "opencv" in notes[0]
