"""The page of tools/live.py: its server over HTTP, its modules in Node, the page in Chromium."""

import contextlib
import dataclasses
import http.client
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
from types import SimpleNamespace

import export
import numpy as np
import pytest
import simplejpeg
import torch
from helpers import chromium
from helpers.launch import refused, start_tool
from helpers.models import small_model

from lib.exporting import export_command
from lib.live.clients import GIVES_WAY_SECONDS, IDLE_SECONDS, MOST_CLIENTS, Clients, TooManyClients
from lib.live.page import check_runs_in_browser, make_page
from lib.live.page_report import PageReport, check_frame, largest_difference
from lib.live.server import VENDOR, WEB, Page, PageServer
from lib.videos.motion_videos import photo, render
from ops.checkpoints import save_checkpoint
from ops.data.transforms import TestTransform
from ops.export import export_onnx
from ops.export.graph import prepare
from ops.predict import Predictor
from ops.streaming import DemoRule, LiveStream, Smoother, StreamingTSN
from ops.utils.errors import UserError

# Speed is compared with the bars only when these tests have the machine for themselves.
IS_ALONE = "PYTEST_XDIST_WORKER" not in os.environ and os.getloadavg()[0] < 1
SIZE = 8
CLASSES = 3
PIXELS = np.arange(SIZE * SIZE * 4, dtype=np.uint8).reshape(SIZE, SIZE, 4)


class CountingStream:
    """A stream whose answer is the number of frames that it has received."""

    def __init__(self):
        self.frames = []

    def push_crop(self, frame, seconds):
        self.frames.append((frame, seconds))
        probabilities = np.full(CLASSES, len(self.frames) / 100)
        scores = np.array([1, 2.5, -3], np.float32)
        return SimpleNamespace(logits=scores, probabilities=probabilities, label=1, latency=0.005)

    def close(self):
        self.frames = None


class SilentStream(CountingStream):
    def push_crop(self, frame, seconds):
        return None


class BrokenStream(CountingStream):
    def push_crop(self, frame, seconds):
        raise RuntimeError("a defect of the network")


@contextlib.contextmanager
def serving(new_stream=CountingStream, **options):
    """A running PageServer of a small page."""
    patience = options.pop("patience", 20)
    settings = {"class_names": ["a", "b", "c"]}
    with running(PageServer(Page(SIZE, settings, new_stream, **options), 0, patience)) as server:
        yield server


@contextlib.contextmanager
def running(server):
    """The server in a thread of its own; both end with the context."""
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop.is_set,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def shared():
    """A server for tests that leave no stream behind: each server takes time to end."""
    with serving() as running:
        yield running


@pytest.fixture
def server():
    with serving() as running:
        yield running


def own_headers(server, client="page-1", seconds=0.0):
    """The headers that the page sends with a frame."""
    return {
        "Host": f"127.0.0.1:{server.server_port}",
        "Origin": f"http://127.0.0.1:{server.server_port}",
        "X-Token": server.token,
        "X-Client": client,
        "X-Seconds": str(seconds),
    }


def ask(server, method, path, body=None, headers=()):
    """One request; returns the status, the headers and the body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def send_frame(server, client="page-1", seconds=0.0, body=None):
    body = PIXELS.tobytes() if body is None else body
    status, _, text = ask(server, "POST", "/frames", body, own_headers(server, client, seconds))
    return status, json.loads(text) if status == 200 else text.decode()


def test_the_page_is_isolated_and_contains_the_token(shared):
    status, headers, page = ask(shared, "GET", "/")
    assert status == 200 and shared.token in page.decode()
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert shared.server_address[0] == "127.0.0.1"


def test_only_a_page_that_runs_the_network_may_compile_wasm():
    with serving(None) as server:
        _, headers, _ = ask(server, "GET", "/")
        assert "script-src 'self' 'wasm-unsafe-eval'" in headers["Content-Security-Policy"]
        assert send_frame(server)[0] == 404


def test_everything_that_the_page_loads_is_served(shared):
    addresses = {"page.css", "page.mjs"}
    for module in WEB.glob("*.mjs"):
        addresses.update(re.findall(r'(?:from|URL\() ?"\./([^"]+)"', module.read_text()))
    types = {"css": "text/css", "mjs": "text/javascript"}
    for address in sorted(addresses):
        if address.startswith("vendor/"):
            continue  # downloaded, only for --in_browser
        status, headers, _ = ask(shared, "GET", f"/{address}")
        assert status == 200, address
        assert headers["Content-Type"].startswith(types[address.rpartition(".")[2]])


@pytest.mark.parametrize(
    "path",
    ["/../live.py", "/%2e%2e/live.py", "/vendor/../../live.py", "//etc/passwd", "/README.md"],
)
def test_no_other_file_is_served(shared, path):
    assert ask(shared, "GET", path)[0] == 404


def test_a_frame_reaches_the_stream_as_rgb_planes():
    stream = CountingStream()
    with serving(lambda: stream) as server:
        status, answer = send_frame(server, seconds=1.5)
    assert status == 200
    assert answer["scores"] == [1, 2.5, -3] and answer["probabilities"] == [0.01] * CLASSES
    assert answer["label"] == 1 and answer["latency"] == 5
    frame, seconds = stream.frames[0]
    assert seconds == 1.5 and frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, PIXELS[..., :3].transpose(2, 0, 1))


def test_a_frame_without_a_result_is_answered():
    with serving(SilentStream) as server:
        assert send_frame(server) == (200, None)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"X-Token": "of another page"}, 401),
        ({"X-Token": "ä"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"X-Client": None}, 400),
        ({"X-Client": "x" * 1000}, 400),
        ({"X-Seconds": "soon"}, 400),
        ({"X-Seconds": "nan"}, 400),
        ({"Content-Length": str(SIZE * SIZE * 4 + 1)}, 413),
        ({"Content-Length": "9" * 11}, 413),
        ({"Content-Length": "-1"}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_a_request_that_is_not_of_the_page_is_refused(shared, changed, status):
    headers = own_headers(shared) | {"Content-Length": str(PIXELS.size)} | changed
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    request = "\r\n".join(["POST /frames HTTP/1.1", *lines, "", ""]).encode("latin-1")
    with socket.create_connection(shared.server_address, timeout=20) as connection:
        connection.sendall(request + PIXELS.tobytes())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == status
        assert len(answer.read().splitlines()) == 1
    assert len(shared.clients) == 0


def test_a_frame_of_another_size_is_refused(shared):
    status, reason = send_frame(shared, body=b"x" * 12)
    assert status == 400 and f"{SIZE}x{SIZE}" in reason


def test_the_page_can_be_opened_through_a_tunnel(server):
    headers = own_headers(server) | {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert ask(server, "POST", "/frames", PIXELS.tobytes(), headers)[0] == 200


def test_another_machine_reads_how_to_open_the_page(shared):
    status, _, text = ask(shared, "GET", "/", headers={"Host": "192.168.1.20:8000"})
    assert status == 403 and f"ssh -L {shared.server_port}:" in text.decode()


def test_settings_need_the_token(shared):
    assert ask(shared, "GET", "/settings")[0] == 401
    status, _, text = ask(shared, "GET", "/settings", headers={"X-Token": shared.token})
    assert status == 200 and json.loads(text)["class_names"] == ["a", "b", "c"]


def test_each_page_has_a_stream_of_its_own(server):
    for number in (1, 2, 3):
        for client in ("first", "second"):
            _, answer = send_frame(server, client, seconds=number)
            assert answer["probabilities"][0] == pytest.approx(number / 100)


def test_a_frame_that_was_overtaken_is_left_out(server):
    assert send_frame(server, seconds=2.0)[1]["probabilities"][0] == pytest.approx(0.01)
    assert send_frame(server, seconds=1.9) == (200, None)
    assert send_frame(server, seconds=2.1)[1]["probabilities"][0] == pytest.approx(0.02)


def test_a_slow_page_holds_up_no_other(server):
    with socket.create_connection(server.server_address, timeout=20) as slow:
        lines = [f"{name}: {value}" for name, value in own_headers(server, "slow").items()]
        lines = ["POST /frames HTTP/1.1", *lines, f"Content-Length: {PIXELS.size}", "", ""]
        slow.sendall("\r\n".join(lines).encode() + b"half a frame")
        assert send_frame(server, "fast")[0] == 200


def test_a_page_that_sends_nothing_is_cut_off():
    with (
        serving(patience=0.1) as server,
        socket.create_connection(server.server_address, timeout=20) as silent,
    ):
        assert silent.recv(1) == b""


def test_a_defect_of_the_network_does_not_end_the_server(capsys):
    with serving(BrokenStream) as server:
        status, reason = send_frame(server)
        assert status == 500 and "terminal" in reason
        assert ask(server, "GET", "/")[0] == 200
    assert "a defect of the network" in capsys.readouterr().err


def test_the_page_reads_what_is_wrong_with_the_network():
    class DamagedStream(CountingStream):
        def push_crop(self, frame, seconds):
            raise UserError("scores are not finite")

    with serving(DamagedStream) as server:
        assert send_frame(server) == (500, "scores are not finite\n")


def test_reports_are_handed_over():
    reports = []
    with serving(on_report=reports.append) as server:
        send_frame(server, "page-1")
        assert len(server.clients) == 1
        report = json.dumps({"client": "page-1", "frames": 1})
        assert ask(server, "POST", "/report", report, own_headers(server))[0] == 200
        assert len(server.clients) == 0
        assert ask(server, "POST", "/report", "[1]", own_headers(server))[0] == 400
        assert ask(server, "POST", "/report", "[" * 100_000, own_headers(server))[0] == 400
    assert reports == [{"client": "page-1", "frames": 1}]


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        (None, 200, slice(0, 100)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=90-", 206, slice(90, 100)),
        ("bytes=90-500", 206, slice(90, 100)),
        ("bytes=0-1,4-5", 200, slice(0, 100)),
        ("bytes=100-", 416, None),
        ("bytes=5-2", 416, None),
    ],
)
def test_a_player_can_ask_for_a_part_of_the_video(tmp_path, header, status, part):
    video = tmp_path / "v.mp4"
    video.write_bytes(bytes(range(100)))
    headers = {"Range": header} if header else {}
    with serving(files={"/video": video}) as server:
        answered, answer, content = ask(server, "GET", "/video", headers=headers)
    assert answered == status
    if part:
        assert content == bytes(range(100))[part] and answer["Content-Type"] == "video/mp4"


def test_a_video_that_is_gone_is_not_found(tmp_path):
    with serving(files={"/video": tmp_path / "gone.mp4"}) as server:
        assert ask(server, "GET", "/video")[0] == 404


def test_a_port_in_use_is_an_error(shared):
    with pytest.raises(UserError, match=rf"--port {shared.server_port}: "):
        PageServer(Page(SIZE, {}, CountingStream), shared.server_port)


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def streams():
    return []


@pytest.fixture
def full(clock, streams):
    """Clients with every place taken at second 0."""

    def new_stream():
        streams.append(CountingStream())
        return streams[-1]

    clients = Clients(new_stream, clock)
    for number in range(MOST_CLIENTS):
        clients.push(f"page-{number}", PIXELS, 0.0)
    return clients


def test_clients_expire(full, clock, streams):
    clock.seconds = IDLE_SECONDS + 1
    full.push("new", PIXELS, 0.0)
    assert len(full) == 1
    assert [stream.frames is None for stream in streams] == [True] * MOST_CLIENTS + [False]


def test_an_idle_client_gives_way(full, clock):
    clock.seconds = GIVES_WAY_SECONDS + 1
    for number in range(1, MOST_CLIENTS):
        full.push(f"page-{number}", PIXELS, 1.0)
    full.push("new", PIXELS, 0.0)
    assert len(full) == MOST_CLIENTS
    assert full.push("page-1", PIXELS, 2.0).probabilities[0] == pytest.approx(0.03)


def test_no_active_client_gives_way(full, clock):
    clock.seconds = GIVES_WAY_SECONDS / 2
    with pytest.raises(TooManyClients):
        full.push("new", PIXELS, 0.0)
    assert len(full) == MOST_CLIENTS


def run_in_node(code, text):
    """Run a module in Node with a text on its standard input; returns its standard output."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    command = [node, "--input-type=module", "--eval", code]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


RUN_SMOOTHER = """
import { Smoother } from "%s";
import { readFileSync } from "node:fs";
const { settings, times, logits } = JSON.parse(readFileSync(0));
const smoother = new Smoother(settings);
console.log(JSON.stringify(times.map((time, i) => smoother.update(logits[i], time))));
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"tau": 0.4, "on": 0.25, "off": 0.15, "hold": 0.2, "idle": [2]},
        {"tau": 0.0, "on": 0.6, "off": 0.6, "hold": 0.0, "idle": []},
        {"tau": 0.2, "on": 0.9, "off": 0.7, "hold": 0.1, "idle": [0, 4], "multi_label": True},
    ],
)
def test_the_page_smooths_as_python_does(settings):
    settings = {"multi_label": False, **settings}
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.uniform(0.01, 0.12, 200))
    # Each class leads for ten frames, with noise.
    logits = rng.normal(0, 1, (200, 5))
    logits[np.arange(200), np.arange(200) // 10 % 5] += 3
    stream = {"settings": settings, "times": times.tolist(), "logits": logits.tolist()}
    answers = json.loads(run_in_node(RUN_SMOOTHER % (WEB / "smoother.mjs"), json.dumps(stream)))
    smoother = Smoother(**settings)
    labels = []
    for time, scores, answer in zip(times, logits, answers, strict=True):
        smoother.update(scores, time)
        np.testing.assert_allclose(answer["probabilities"], smoother.probabilities, rtol=1e-9)
        assert answer["label"] == smoother.label
        labels.append(smoother.label)
    assert len(set(labels)) > 3  # else the test shows little


RUN_CHECK_FRAME = """
import { checkFrame, toPlanes } from "%s";
const planes = new Uint8Array(3 * 10 * 10);
toPlanes(checkFrame(7, 10), planes);
console.log(JSON.stringify(Array.from(planes)));
"""


def test_the_page_computes_the_check_frames_of_python():
    planes = json.loads(run_in_node(RUN_CHECK_FRAME % (WEB / "frames.mjs"), ""))
    np.testing.assert_array_equal(np.reshape(planes, (3, 10, 10)), check_frame(7, 10))


RUN_SAMPLER = """
import { Sampler } from "%s";
import { readFileSync } from "node:fs";
const { rate, times } = JSON.parse(readFileSync(0));
const sampler = new Sampler(rate);
const taken = times.map((time) => {
  const isDue = sampler.isDue(time);
  if (isDue) {
    sampler.take(time);
  }
  return isDue;
});
console.log(JSON.stringify(taken));
"""


@pytest.mark.parametrize("times", [np.arange(40) / 30, np.arange(40) / 24 + 5.3])
def test_the_page_sends_the_frames_that_python_samples(times):
    stream = {"rate": 12, "times": times.tolist()}
    taken = json.loads(run_in_node(RUN_SAMPLER % (WEB / "frames.mjs"), json.dumps(stream)))
    live = LiveStream(small_model("tsn", 3, 1, input_size=32), fps=12)
    frame = np.zeros((3, 32, 32), np.uint8)
    results = [live.push_crop(frame, time) is not None for time in times]
    assert taken == results and 0 < sum(taken) < len(taken)


REPORT = {
    "source": "camera",
    "frames": 300,
    "seconds": 10,
    "rate": 29.9,
    "latency": 14.1,
    "slow_latency": 19.3,
    "skipped": 1,
    "counts": {"0": 4, "2": 250},
    "check": None,
}


def test_a_report_is_one_line():
    report = PageReport.parse(REPORT)
    assert report.label == 2
    line = report.describe(["a", "b", "Zooming in"])
    assert "29.9 frames/s" in line and "14.1 ms" in line and "Zooming in" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "\x1b[2J"},
        {"frames": "many"},
        {"rate": None},
        {"counts": [1, 2]},
        {"counts": {"x": 1}},
        {"skipped": float("inf")},
        {"check": 3},
        {"check": [[1, 2], [3]]},
        {"check": [1, 2, 3]},
    ],
)
def test_what_is_no_report_is_refused(changes):
    with pytest.raises(ValueError, match="not a report"):
        PageReport.parse({**REPORT, **changes})


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "tsm.pth"
    save_checkpoint(path, small_causal())
    return path


def small_causal():
    return small_model("tsm", 3, 4, shift_direction="past", input_size=32)


@pytest.fixture
def small_page():
    """A page of a small causal network, and the lines that it says."""
    network = small_causal()
    lines = []
    page = make_page(network, lambda: LiveStream(network, fps=10), lines.append)
    return SimpleNamespace(page=page, lines=lines)


def test_the_page_is_told_about_the_network(small_page):
    settings = small_page.page.settings
    assert settings["class_names"] == ["label 0", "label 1", "label 2"]
    assert settings["size"] == 32 and settings["share"] == 32 / 36
    assert settings["rate"] == 10 and settings["steps"]
    assert settings["video"] is None and settings["step"] is None
    json.dumps(settings)


def test_scores_of_the_page_are_compared_with_python(small_page):
    page = small_page.page
    with running(PageServer(page, 0)) as server:
        check = []
        for index in range(3):
            pixels = np.full((32, 32, 4), 255, np.uint8)
            pixels[..., :3] = check_frame(index, 32).transpose(1, 2, 0)
            _, result = send_frame(server, seconds=index / 10, body=pixels.tobytes())
            check.append(result["scores"])
        page.on_report({**REPORT, "check": check})
        check[1][0] += 1
        page.on_report({**REPORT, "check": check})
    good, bad = [float(re.search(r"at most (\S+) of", line)[1]) for line in small_page.lines]
    assert good < 1e-5 < 1e-2 < bad


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([], "--page"),
        (["--source", "0", "--port", "0"], "--port"),
        (["--source", "0", "--in_browser"], "--in_browser"),
        (["--page", "--source", "0"], "--source"),
        (["--page", "--jsonl", "events.jsonl"], "--jsonl"),
        (["--page", "--video", "none.mp4"], "none.mp4"),
        (["--page", "--in_browser"], "--in_browser"),
    ],
)
def test_flags_without_an_effect_are_refused(capsys, small_checkpoint, flags, part):
    assert part in refused(capsys, "live", "--weights", small_checkpoint, *flags)


def test_the_page_runs_exported_steps_of_single_pictures_only():
    step = SimpleNamespace(kind="step", frame_channels=3)
    stream = SimpleNamespace(rule=Smoother())
    check_runs_in_browser(step, stream, "step.onnx")
    clip = SimpleNamespace(kind="clip", frame_channels=3)
    differences = SimpleNamespace(kind="step", frame_channels=18)
    demo = SimpleNamespace(rule=DemoRule())
    for model, used in ((clip, stream), (differences, stream), (step, demo)):
        with pytest.raises(UserError, match="--in_browser"):
            check_runs_in_browser(model, used, "step.onnx")


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(small_checkpoint):
    process = start_tool("live", "--weights", small_checkpoint, "--page", "--port", 0)
    for line in process.stderr:
        address = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if address:
            break
    server = SimpleNamespace(server_port=int(address[1]))
    status, _, page = ask(server, "GET", "/")
    assert status == 200 and b"token" in page
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


SHOWN = "Zooming in"
OTHERS = ("Turning clockwise", "Moving up")
VIDEO_SIDE = 256
VIDEO_FRAMES = 6
FPS = 30  # of the camera, and of the network


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    """A causal TSM that knows three videos of the motion dataset, and a camera that shows one.

    Its head is fitted to these videos, so that a wrong order of channels, rows or frames on the way
    from the camera shows in the classes.
    """
    folder = tmp_path_factory.mktemp("recognizer")
    names = [SHOWN, *OTHERS]
    photograph = photo("val")
    rng = np.random.default_rng(0)
    videos = [render(photograph, name, VIDEO_SIDE, VIDEO_FRAMES, rng) for name in names]
    camera = folder / "camera.mjpeg"
    camera.write_bytes(b"".join(simplejpeg.encode_jpeg(frame, 95) for frame in videos[0]))

    network = small_model("tsm", 3, VIDEO_FRAMES, arch="mobilenetv2", shift_direction="past")
    transform = TestTransform(network.scale_size, network.input_size, 1)
    crops = [torch.cat([transform.views_of_frame(frame) for frame in video]) for video in videos]
    fit(network, torch.stack(crops))
    checkpoint = folder / "tsm.pth"
    save_checkpoint(checkpoint, network, class_names=names)
    return SimpleNamespace(network=network, names=names, camera=camera, checkpoint=checkpoint)


def fit(network, clips):
    """Make a network of random weights tell clips apart, one class each, ``[B, T, C, H, W]``."""
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None  # the statistics of exactly these clips
    with torch.no_grad():
        network.train()(clips)
        features = network.eval().features(clips).mean(1)
        distances = features - features.mean(0)
        weights = 10 * distances / distances.square().sum(1, keepdim=True)
        network.head.weight.copy_(weights)
        network.head.bias.copy_(-weights @ features.mean(0))


def visit(page, folder, camera):
    """Open a page in Chromium until its report arrives; returns it."""
    reports = queue.Queue()
    page = dataclasses.replace(page, on_report=reports.put)
    with running(PageServer(page, 0)) as server:
        url = f"{server.url}?check=8&start&seconds=4"
        with chromium.opened(url, folder, camera):
            return PageReport.parse(reports.get(timeout=90))


@pytest.fixture(scope="module")
def step(recognizer):
    """The exported step of the network, an ONNX file; its parity is tested elsewhere."""
    path = recognizer.checkpoint.with_name("step.onnx")
    flags = ["--weights", recognizer.checkpoint, "--to", "onnx", "--stream", "--out", path]
    args = export.parser().parse_args([str(flag) for flag in flags])
    predictor = export_command.load(args)
    network = StreamingTSN(prepare(predictor.model, "fp32", fuse_bn=False))
    export_onnx(network, path, export_command.describe_export(args, predictor))
    return path


def check_sight(recognizer, page, new_stream, report):
    """The camera's class is seen nearly always, and the scores are those of Python."""
    print(report)
    assert recognizer.names[report.label] == SHOWN
    assert report.counts[report.label] > 0.8 * sum(report.counts.values())
    assert largest_difference(report.check, new_stream(), page.size, FPS) < 1e-4


@pytest.mark.slow
def test_python_recognizes_what_the_camera_shows(recognizer, tmp_path):
    def new_stream():
        return LiveStream(recognizer.network, recognizer.names, fps=FPS)

    page = make_page(recognizer.network, new_stream, print)
    report = visit(page, tmp_path, recognizer.camera)
    check_sight(recognizer, page, new_stream, report)
    if IS_ALONE:
        assert report.rate >= 20 and report.latency <= 30


@pytest.mark.slow
def test_the_page_recognizes_what_the_camera_shows(recognizer, step, tmp_path):
    if not VENDOR.is_dir():
        pytest.skip("no onnxruntime-web: bash tools/web/get_runtime.sh")
    network = Predictor(step).model

    def new_stream():
        return LiveStream(network, recognizer.names, fps=FPS)

    page = make_page(network, new_stream, print, step=step)
    report = visit(page, tmp_path, recognizer.camera)
    check_sight(recognizer, page, new_stream, report)
    if IS_ALONE:
        assert report.rate >= 10
