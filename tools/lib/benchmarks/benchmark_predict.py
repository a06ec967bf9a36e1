"""``benchmark.py predict``: predictions beside the network alone, a timeline beside naive ones."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch

from lib.benchmarks.benchmark_targets import PREDICT, PREDICT_SHARING
from lib.measure import machine, table
from ops.checkpoints import save_checkpoint
from ops.data.readers.open import open_reader
from ops.data.readers.templates import EXAMPLES
from ops.data.sampling import center_offsets
from ops.distributed import choose_device
from ops.models import TSN
from ops.predict import Predictor

WIDTH, HEIGHT, RATE = 340, 256, 30
WINDOW, STEP = 64, 16  # frames
MIB = 2**20


def predict(args):
    """Print the cost of predictions, of the start, and of a timeline."""
    if args.peak:
        print(_peak(*args.peak))
        return
    if args.device == "auto":
        args.device = choose_device(None).type
    print(machine("torch", "torchvision", "av"))
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            _folder_of_clips(Path(folder), args),
            _startup(Path(folder), args.rounds),
            *_timeline(Path(folder), args),
            _memory(Path(folder), args),
        ]
    table(("", "measured", "target", ""), rows)


def _row(name: str, value: float, target: float, unit: str = "", most: bool = True):
    fits = value <= target if most else value >= target
    bound = f"{'<=' if most else '>='} {target:g}{unit}"
    return (
        name,
        f"{value:.2g}{unit}" if value < 0.01 else f"{value:.2f}{unit}",
        bound,
        "ok" if fits else "missed",
    )


def _folder_of_clips(folder: Path, args):
    """Wall-clock time of predicting clips of 10 seconds, over that of the network alone."""
    video = make_video(folder / "clip.mp4", 10 * RATE)
    torch.manual_seed(0)
    predictor = Predictor(TSN(400, 8, arch=args.arch, module="tsm"), args.device)
    clip = torch.randint(256, (1, 8, 3, 224, 224), dtype=torch.uint8).to(predictor.device)

    def network() -> None:
        with torch.inference_mode():
            for _ in range(args.clips):
                predictor.model(clip).cpu()

    def predictions() -> None:
        for _ in predictor.many([video] * args.clips, workers=args.workers):
            pass

    times = _interleaved({"network": network, "predictions": predictions}, args.rounds)
    name = f"{args.clips} clips of 10 s, tsm {args.arch} 8x1x1: time / network alone"
    return _row(name, times["predictions"] / times["network"], PREDICT["network"])


def _interleaved(cases: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median wall-clock seconds of each case; the first round warms up."""
    seconds = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


def _startup(folder: Path, rounds: int):
    """Seconds from the command to its end, for one short video and a small network."""
    video = make_video(folder / "short.mp4", 8)
    weights = folder / "small.pth"
    save_checkpoint(weights, TSN(400, 8, arch="mobilenetv2", module="tsm", input_size=64))
    tool = Path(__file__).resolve().parents[2] / "predict.py"
    command = [sys.executable, tool, video, "--weights", weights, "--quiet"]
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return _row("command for one short clip", min(seconds), PREDICT["start"], " s")


def _timeline(folder: Path, args):
    """The windows of a video: computing shared frames once, and the share of reading."""
    video = make_video(folder / "minute.mp4", args.seconds * RATE)
    torch.manual_seed(0)
    predictor = Predictor(TSN(400, 8, arch=args.arch), args.device)
    window, step = WINDOW / RATE, STEP / RATE

    def shared() -> None:
        found.extend(window.logits for window in predictor.windows(video, window, step))

    def naive() -> None:
        expected.extend(_naive_windows(predictor, video))

    found, expected = [], []
    times = _interleaved({"shared": shared, "naive": naive}, 1)
    count = min(len(found), len(expected)) // 2
    difference = np.abs(np.stack(found[:count]) - np.stack(expected[:count])).max()
    scale = np.abs(np.stack(expected[:count])).max()
    yield _row(
        "timeline: largest difference to naive logits / largest logit",
        difference / scale,
        PREDICT["difference"],
    )
    gain = times["naive"] / times["shared"]
    yield _row("timeline of tsn: naive / shared", gain, PREDICT_SHARING, most=False)
    features = torch.zeros(1, predictor.model.head.in_features)
    predictor.model.segment_features = lambda pixels: features.expand(len(pixels), -1)
    reading = _interleaved({"reading": shared}, 1)["reading"]
    yield _row("time spent reading", reading / times["shared"], PREDICT["reading"])


def _naive_windows(predictor: Predictor, video: str):
    """Logits of each window, whose frames are read and computed for it alone."""
    dataset = predictor.protocol.dataset(predictor.model, [], "", "pyav")
    with open_reader(video, image_tmpl=EXAMPLES["RGB"]) as reader:
        for start in range(0, len(reader) - WINDOW + 1, STEP):
            frames = dataset.transform.scale(reader.get(start + center_offsets(WINDOW, 8, 1)))
            clip = dataset.transform.crops(frames, torch.arange(8)[:, None])
            with torch.inference_mode():
                yield predictor.model(clip.to(predictor.device)).mean(0).cpu().numpy()


def _memory(folder: Path, args):
    """How much more memory a long video takes than a minute."""
    long = make_video(folder / "long.mp4", args.minutes * 60 * RATE)
    peaks = []
    for video in (folder / "minute.mp4", long):
        command = [sys.executable, sys.argv[0], "predict", "--peak", video, args.device]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(run.stdout.split()[-1]))
    name = f"peak memory of a timeline, from {args.seconds} s to {args.minutes} min"
    return _row(name, peaks[1] - peaks[0], PREDICT["growth"], " MB")


def _peak(video: str, device: str) -> float:
    """Peak memory in MB of a timeline with a small network."""
    predictor = Predictor(TSN(400, 8, arch="resnet18", input_size=64), device)
    for _ in predictor.windows(video, WINDOW / RATE, 4 * STEP / RATE):
        pass
    # Not ru_maxrss, which a child inherits from the process that started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MIB
    return float("nan")


def make_video(path: Path, frames: int) -> str:
    """A video of moving noise, 340 x 256, 30 frames/s."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (HEIGHT // 8 + 8, WIDTH // 8 + 8, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            shift = number % 60
            image = np.ascontiguousarray(texture[shift:][:HEIGHT, shift:][:, :WIDTH])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return os.fspath(path)
