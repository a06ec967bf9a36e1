"""Renders the videos of the motion dataset from two photographs, and encodes them."""

import io

import av
import numpy as np
from PIL import Image

# Class -> what changes, and in which direction: x to the right, y downwards, zoom to larger, turn
# clockwise.
CLASSES = {
    "Moving left to right": ("x", 1),
    "Moving right to left": ("x", -1),
    "Moving up": ("y", -1),
    "Moving down": ("y", 1),
    "Zooming in": ("zoom", 1),
    "Zooming out": ("zoom", -1),
    "Turning clockwise": ("turn", 1),
    "Turning counterclockwise": ("turn", -1),
}
SPLITS = ("train", "val")
# The part of each photograph that is full of detail (left, upper, right, lower): a plain sky shows
# no motion.
PHOTOS = {"train": ("china.jpg", (60, 40, 355, 427)), "val": ("flower.jpg", (165, 85, 450, 427))}
# Side of the part of the photograph that is visible in the middle of a zoom, in its pixels.
VIEW = (70, 300)
# Motion from the first to the last frame: radians of a turn, logarithm of a zoom.
AMOUNT = (0.8, 1.6)
# The root mean square distance of a square's points from its center, in sides. Moving by this times
# the amount displaces the pixels as far as turning or zooming by the amount does.
LEVER = 6**-0.5
# Half the diagonal of the widest view, in pixels of the photograph.
MARGIN = int(VIEW[1] * np.exp(AMOUNT[1] / 2) * 0.5**0.5) + 2
# Pixels that are rendered for each side of a small video, before averaging.
RENDERED_SIDE = 256
FRAME_RATE = 12
GOP = 12  # frames from keyframe to keyframe


def photo(split: str) -> Image.Image:
    """The photograph of a split, continued by ``endless``."""
    # Takes a second, which a complete dataset does not need.
    from sklearn.datasets import load_sample_image

    name, box = PHOTOS[split]
    return endless(np.asarray(Image.fromarray(load_sample_image(name)).crop(box)))


def endless(picture: np.ndarray) -> Image.Image:
    """A picture continued by its reflections.

    Args:
        picture: uint8 ``[H, W, 3]``.

    Returns:
        One period of ``2H x 2W``, and ``MARGIN`` on each side.
    """
    height, width, _ = picture.shape
    padding = ((MARGIN, height + MARGIN), (MARGIN, width + MARGIN), (0, 0))
    return Image.fromarray(np.pad(picture, padding, "symmetric"))


def render(
    plane: Image.Image, name: str, size: int, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Render a video.

    Nothing but the motion depends on the class. The picture has no border, so position and angle
    are uniformly distributed at each time of each class. The zoom cannot be: a random frame of any
    class has the same distribution of zooms, since the classes that do not zoom keep one that the
    others pass. Every random number is drawn before the class is used, and every frame goes through
    the same interpolation.

    Args:
        plane: an ``endless`` picture.
        name: one of ``CLASSES``.
        size: width and height in pixels.
        frames: number of frames.
        rng: source of random numbers.

    Returns:
        uint8 ``[frames, size, size, 3]``.
    """
    period = np.array(plane.size) - 2 * MARGIN
    path = rng.uniform(*AMOUNT) * np.linspace(-0.5, 0.5, frames)
    zero = np.zeros(frames)
    course = {"x": zero, "y": zero, "turn": zero, "zoom": np.full(frames, rng.choice(path))}
    center = rng.uniform(0, period)
    angle = rng.uniform(0, 2 * np.pi)
    view = np.exp(rng.uniform(*np.log(VIEW)))
    colors = color_tables(rng)
    grain = rng.normal(0, rng.uniform(0, 4), (frames, size, size, 3))

    quantity, direction = CLASSES[name]
    course[quantity] = direction * path

    # A pixel is the mean of many bilinear samples, so dense that hardly any detail is skipped.
    samples = max(2, -(-RENDERED_SIDE // size))  # per side of a pixel; rounded up
    video = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        # A point of the screen (in sides, from its center) is at origin + turned @ point in the
        # photograph.
        cos = np.cos(angle - course["turn"][t])
        sin = np.sin(angle - course["turn"][t])
        turned = view * np.exp(-course["zoom"][t]) * np.array([[cos, -sin], [sin, cos]])
        shift = LEVER * np.array([course["x"][t], course["y"][t]])
        origin = (center - turned @ shift) % period + MARGIN
        corner = origin - turned @ (0.5, 0.5)
        step = turned / (samples * size)
        frame = plane.transform(
            (samples * size, samples * size),
            Image.Transform.AFFINE,
            (*step[0], corner[0], *step[1], corner[1]),
            Image.Resampling.BILINEAR,
        )
        video[t] = frame.reduce(samples)
    recolored = np.stack([table[video[..., channel]] for channel, table in colors], axis=-1)
    return (recolored + grain).round().clip(0, 255).astype(np.uint8)


def color_tables(rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Random colors of a video: gamma, contrast, brightness, and gain and order of the channels.

    Returns:
        For each channel, the channel to take it from, and the new value of each of its 256 values,
        neither rounded nor clipped.
    """
    gamma = np.exp(rng.uniform(-0.4, 0.4))
    contrast = np.exp(rng.uniform(-0.4, 0.2))
    brightness = rng.uniform(-0.1, 0.1)
    gains = rng.uniform(0.8, 1.2, 3)
    levels = ((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5 + brightness
    channels = rng.permutation(3)
    return [
        (int(channel), 255 * gain * levels) for channel, gain in zip(channels, gains, strict=True)
    ]


def encode(video: np.ndarray) -> bytes:
    """Encode a video, always to the same bytes.

    Therefore it uses one thread, and no macroblock tree: in x264 that depends on uninitialized
    memory, and it would make the quality depend on the motion.

    Args:
        video: uint8 ``[frames, size, size, 3]``.

    Returns:
        An mp4 file with H.264.
    """
    file = io.BytesIO()
    options = {"crf": "16", "mbtree": "0"}
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.codec_context.thread_count = 1
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
