"""Both sides of the comparison of tools/export.py: the checkpoint and the file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ops.data.lists import VideoList
from ops.data.readers.base import UnreadableVideo
from ops.export.description import Description
from ops.export.network import SUFFIX, load_exported, run_steps
from ops.export.parity import BATCHES, Parity, check_parity, video_batches
from ops.models import TSN
from ops.predict import Predictor, average_views
from ops.scores.metrics import evaluate, line
from ops.streaming import StreamingTSN
from ops.utils.errors import UserError

VIEW_BATCH = 4  # views that go through the networks at once


class Pair:
    """A network and its file, called in the same way.

    Attributes:
        network: the checkpoint in float32, uint8 clip ``[B, T, L*C, S, S]`` to scores
            ``[B, R, num_class]``: R is T for a network of single frames, else 1.
        exported: the same function of the file.
        precision: of the file.
        clip_shape: ``[T, L*C, S, S]``.
    """

    def __init__(self, model: TSN, exported: Callable, description: Description) -> None:
        """Pair them.

        Args:
            model: the network.
            exported: what :func:`exported_network` returns.
            description: of the file.
        """
        self.precision = description.precision
        size = description.input_size
        self.clip_shape = (description.num_segments, description.frame_channels, size, size)
        if description.kind == "clip":
            self.network = lambda clip: model(clip).unsqueeze(1)
            self.exported = lambda clip: exported(clip).unsqueeze(1)
            return
        stream = StreamingTSN(model)
        self.network = lambda clip: run_steps(stream, clip)
        self.exported = lambda clip: run_steps(exported, clip)


def exported_network(path: Path, network: torch.nn.Module, description: Description) -> Callable:
    """The file that was just written, as a function.

    Args:
        path: the file.
        network: that was exported; its state is that of the file.
        description: of the file.
    """
    if path.suffix == SUFFIX:
        return load_exported(path)
    graph = torch.export.load(path).module()
    if description.kind == "clip":
        return graph

    def step(frame, state):
        if state is None:
            state = tuple(part.float() for part in network.initial_state(frame))
        scores, *new_state = graph(frame, *state)
        return scores, tuple(new_state)

    return step


def thinned(videos: VideoList, count: int) -> VideoList:
    """At most so many videos of a list, evenly from all of it."""
    if len(videos) <= count:
        return videos
    picked = [videos[number * len(videos) // count] for number in range(count)]
    num_frames = [-1 if record.num_frames is None else record.num_frames for record in picked]
    return VideoList(
        videos.path,
        videos.root_path,
        [record.id for record in picked],
        num_frames,
        [record.label for record in picked],
        [record.line for record in picked],
        videos.labels.shape[-1],
    )


def views_of(predictor: Predictor, path: str, place: str) -> torch.Tensor:
    """The clips of a video, as ``Predictor.views`` gives them.

    Args:
        predictor: whose protocol chooses them.
        path: the video.
        place: where it is named, for the message.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return predictor.views(path)
    except UnreadableVideo as error:
        raise UserError(f"{place}: {error.reason}") from None


@dataclass(frozen=True)
class ListScores:
    """How both networks do on a list.

    Attributes:
        parity: over all views, or all frames for a network of single frames.
        expected, exported: the accuracy of the checkpoint and of the file, in words.
    """

    parity: Parity
    expected: str
    exported: str


@torch.inference_mode()
def compare_list(predictor: Predictor, pair: Pair, videos: VideoList) -> ListScores:
    """Score the videos of a list with both networks.

    Args:
        predictor: of the checkpoint; its protocol chooses the views.
        pair: both networks.
        videos: the list.

    Raises:
        UserError: a video cannot be read.
    """
    parity = Parity(pair.precision)
    expected_scores = []
    exported_scores = []
    first_clips = []
    for record in tqdm(videos, desc="comparing", unit="video", disable=None, leave=False):
        place = f"{videos.path}:{record.line}: {record.id}"
        views = views_of(predictor, record.path, place)
        if len(first_clips) < max(BATCHES):
            first_clips.append(views[:1])
        expected = torch.cat([pair.network(part) for part in views.split(VIEW_BATCH)])
        exported = torch.cat([pair.exported(part) for part in views.split(VIEW_BATCH)])
        parity.add(expected, exported)
        expected_scores.append(_scores_of_video(predictor, expected))
        exported_scores.append(_scores_of_video(predictor, exported))
    batches = video_batches(torch.cat(first_clips))
    parity.merge(check_parity(pair.network, pair.exported, batches, pair.precision))
    return ListScores(
        parity,
        line(evaluate(np.stack(expected_scores), videos.labels)),
        line(evaluate(np.stack(exported_scores), videos.labels)),
    )


def _scores_of_video(predictor: Predictor, scores: torch.Tensor) -> np.ndarray:
    """``[views, R, num_class]`` to the probabilities of the video, ``[num_class]``."""
    of_views = scores.mean(1).numpy()
    return average_views(of_views, predictor.protocol.average, predictor.multi_label)
