"""``benchmark.py data``: a training clip from a video file and from a folder of frames, the original's way and ours."""

import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from lib import baselines_data
from lib.measure import interleave, judged, machine, table
from ops.data.lists import read_list
from ops.data.loader import TrainDataset
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.sampling import clip_rng, frame_indices, train_offsets
from ops.data.transforms import draw_crop
from ops.utils.errors import UserError

TEMPLATE = "img_{:05d}.jpg"
BARS = {("video", 5): 2.0, ("video", 1): 1.7, ("frame folder", 5): 3.5, ("frame folder", 1): 2.5}


def data(args):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        video = (
            Path(args.video).resolve()
            if args.video
            else make_video(folder / "made.mp4", args.frames)
        )
        frames, height, width = extract(video, folder / "frames")
        paths = {"video": video, "frame folder": folder / "frames"}
        makers = {}
        for source, L in BARS:
            dataset = training_set(
                folder / "list.txt", f"{paths[source]}\t{frames if source != 'video' else ''}", L
            )
            makers[source, L] = clip_makers(dataset, frames, height, width)
        worst = max(largest_difference(*pair) for pair in makers.values())
        if worst > 2:
            raise UserError(
                f"the two ways do not make the same clip: a pixel differs by {worst} of 255 levels"
            )
        times = interleave(
            {
                (case, side): in_a_row(make, args.clips)
                for case, pair in makers.items()
                for side, make in enumerate(pair)
            },
            args.rounds,
        )
    print(machine("torch", "torchvision", "av", "decord", "simplejpeg", "pillow"))
    print(
        f"CPU time of one training clip of {video.name} ({frames} frames, {width}x{height}), {args.rounds} rounds of "
        f"{args.clips} clips in a row; largest difference of a pixel {worst} of 255\n"
    )
    rows = []
    for (source, L), bar in BARS.items():
        original, ours = (times[(source, L), side] / args.clips for side in (0, 1))
        rows.append(
            (
                f"{source}, 8 x {L} frames",
                f"{original:.1f}",
                f"{ours:.1f}",
                f"{1000 / ours:.1f}",
                *judged(original / ours, bar),
            )
        )
    table(("", "original ms", "ours ms", "ours clips/s/core", "ratio", "bar", ""), rows)


def make_video(path, frames):
    """Write an H.264 file of 340x256 at 30 frames/s with x264's own settings (a keyframe at least every 250 frames).

    A picture that pans, a part of another that moves across it, and the noise of a sensor: about 2 kB a frame, and as
    JPEG of quality 95 about 30 kB, like real videos of this size. Returns the path.
    """
    # Twice as large: at their own size the pictures are sharper than frames of real videos.
    far, near = (
        np.asarray(Image.fromarray(image).resize((1280, 854)))
        for image in load_sample_images().images
    )
    rng = np.random.default_rng(0)
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
    """Write every frame as a JPEG of quality 95. Returns their number, height and width. Raises UserError."""
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
    """The training loader's data set of clips of 8 segments, with a list of ``lines`` times the same video.

    line: the path and the number of frames, or nothing for a video file, with a tab between; label 0 is added.
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
    """Two functions of an epoch that make the same clip: the original's way, and ``dataset[epoch, 0]``."""
    record = dataset.video_list[0]
    T, L = dataset.num_segments, dataset.frames_per_segment
    is_folder = Path(record.path).is_dir()

    def original(epoch):
        # What the data set draws, in its order: the comparison of pixels fails if that ever changes.
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


def in_a_row(make, clips):
    """A function of a round that makes several clips one after the other, as a loader's process does."""

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
