"""``benchmark.py data``: training clips from videos and frames, by the original and by ours."""

import copy
import tempfile
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from lib.benchmarks import baselines_data
from lib.benchmarks import benchmark_targets as targets
from lib.measure import compare, interleave, machine, table
from ops.data.lists import read_list
from ops.data.loader import TrainDataset
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import DECODERS, open_reader
from ops.data.sampling import clip_rng, frame_indices, train_offsets
from ops.data.transforms import draw_crop
from ops.utils.errors import UserError

TEMPLATE = "img_{:05d}.jpg"
DEFAULT_DECODER = "pyav"
MAX_DIFFERENCE = 2  # of 255 levels


def data(args):
    """Print the CPU time of training clips from a video and from a folder of frames."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if args.video:
            video = Path(args.video).resolve()
        else:
            video = make_video(folder / "made.mp4", args.frames)
        frames, height, width = extract(video, folder / "frames")
        makers, others = {}, {}
        decoders = other_decoders(video)
        for source, length in targets.DATA:
            line = str(video)
            if source == "frame folder":
                line = f"{folder / 'frames'}\t{frames}"
            dataset = training_set(folder / "list.txt", line, length)
            makers[source, length] = clip_makers(dataset, frames, height, width)
            if source == "video":
                for decoder in decoders:
                    others[(source, length), decoder] = with_decoder(dataset, decoder)
        worst = max(largest_difference(*pair) for pair in makers.values())
        if worst > MAX_DIFFERENCE:
            raise UserError(f"the clips differ: a pixel by {worst} of 255 levels")
        cases = {}
        for case, (original, ours) in makers.items():
            cases[case, "original"] = in_a_row(original, args.clips)
            cases[case, "ours"] = in_a_row(ours, args.clips)
        for case, make in others.items():
            cases[case] = in_a_row(make, args.clips)
        times = interleave(cases, args.rounds)
    print(machine("torch", "torchvision", "av", "decord", "torchcodec", "simplejpeg", "pillow"))
    print(
        f"CPU time of one training clip of {video.name} ({frames} frames, {width}x{height}), "
        f"{args.rounds} rounds of {args.clips} clips; pixels differ by at most {worst} of 255\n"
    )
    print_times(times, decoders, args.clips)


def print_times(times, decoders, clips):
    """Print a table of milliseconds per clip.

    Args:
        times: milliseconds of `clips` clips, of each case with "original", "ours", and for videos
            each of `decoders`.
        decoders: names of other decoders.
        clips: their number.
    """
    rows = []
    for case, target in targets.DATA.items():
        source, length = case
        original = times[case, "original"] / clips
        ours = times[case, "ours"] / clips
        cells = [f"{original:.1f}"]
        for decoder in decoders:
            if source == "video":
                cells.append(f"{times[case, decoder] / clips:.1f}")
            else:
                cells.append("")
        cells += [f"{ours:.1f}", f"{1000 / ours:.1f}"]
        rows.append((f"{source}, 8 x {length} frames", *cells, *compare(original, ours, target)))
    decoder_titles = (f"--decoder {decoder} ms" for decoder in decoders)
    titles = ("original ms", *decoder_titles, "ours ms", "ours clips/s/core")
    table(("", *titles, "ratio", "target", ""), rows)


def make_video(path, frames, seed=0):
    """Write an H.264 file of 340x256 at 30 frames/s with x264's defaults; returns the path.

    Another seed gives other noise.

    A picture that pans, a part of another that moves across it, and sensor noise: about 2 kB per
    frame, and 30 kB as JPEG of quality 95, like real videos of this size.
    """
    # Twice as large: at their own size the pictures are sharper than frames of real videos.
    far, near = (
        np.asarray(Image.fromarray(image).resize((1280, 854)))
        for image in load_sample_images().images
    )
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for i in range(frames):
            angle = 2 * np.pi * i / 300
            y, x = round(299 * (1 - np.cos(angle))), round(470 * (1 - np.cos(2 * angle)))
            image = far[y : y + 256, x : x + 340] + rng.normal(0, 6, (256, 340, 3))
            y, x = round(78 + 78 * np.sin(3 * angle)), round(120 + 120 * np.sin(2 * angle))
            image[y : y + 100, x : x + 100] = near[300:400, 400:500]
            image = image.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def extract(video, folder):
    """Write every frame as a JPEG of quality 95; returns their number, height and width."""
    folder.mkdir()
    try:
        with open_reader(video, image_tmpl=TEMPLATE) as reader:
            count = len(reader)
            for start in range(0, count, 300):
                for number, frame in enumerate(
                    reader.get(range(start, min(start + 300, count))), start + 1
                ):
                    Image.fromarray(frame).save(folder / TEMPLATE.format(number), quality=95)
    except UnreadableVideo as error:
        raise UserError(f"--video {error}") from None
    return count, *frame.shape[:2]


def training_set(path, line, frames_per_segment, lines=1):
    """The training dataset of clips of 8 segments of one video, which the list has many times.

    Args:
        path: of the list, which is written.
        line: path of a video, or path of a folder, a tab and its number of frames.
        frames_per_segment: L.
        lines: lines of the list.
    """
    path.write_text(f"{line.strip()}\t0\n" * lines)
    return TrainDataset(
        read_list(path, num_class=1),
        num_segments=8,
        frames_per_segment=frames_per_segment,
        image_tmpl=TEMPLATE,
        crop_size=224,
        flip_map=np.zeros(1, np.int64),
    )


def clip_makers(dataset, frames, height, width):
    """Two functions of an epoch that make the same clip: the original and ``dataset[epoch, 0]``."""
    record = dataset.video_list[0]
    T, L = dataset.num_segments, dataset.frames_per_segment
    is_folder = Path(record.path).is_dir()

    def original(epoch):
        # In the order of the dataset: the comparison of pixels fails if that ever changes.
        rng = clip_rng(dataset.seed, epoch, f"{record.id}:{record.line}", 0)
        flip = bool(rng.random() < 0.5)
        indices = frame_indices(train_offsets(frames, T, L, rng), L, frames).flatten()
        crop = draw_crop(width, height, dataset.transform.crop_size, dataset.transform.scales, rng)
        if is_folder:
            images = baselines_data.images_of_folder(record.path, indices, TEMPLATE)
        else:
            images = baselines_data.images_of_video(record.path, indices)
        return baselines_data.training_clip(images, crop, flip)

    return original, lambda epoch: dataset[epoch, 0].clip


def other_decoders(video):
    """The decoders beside the default one that are installed and can read a video."""
    found = []
    for decoder in DECODERS:
        if decoder == DEFAULT_DECODER:
            continue
        with suppress(UserError, UnreadableVideo):
            open_reader(video, image_tmpl=TEMPLATE, decoder=decoder).close()
            found.append(decoder)
    return found


def with_decoder(dataset, decoder):
    """A function of an epoch that makes our clip with another decoder."""
    other = copy.copy(dataset)
    other.decoder = decoder
    return lambda epoch: other[epoch, 0].clip


def in_a_row(make, clips):
    """A function of a round that makes clips one after the other, as a data-loading worker does."""

    def run(number):
        for clip in range(clips):
            make(number * clips + clip)

    return run


def largest_difference(original, ours, epochs=4):
    """The largest difference of a pixel between the clips of two makers, in levels of 255."""
    pairs = (
        (baselines_data.pixels(original(epoch)).int(), ours(epoch).flatten(0, 1).int())
        for epoch in range(epochs)
    )
    return max((theirs - clip).abs().max().item() for theirs, clip in pairs)
