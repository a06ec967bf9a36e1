"""Both sides of the comparison of tools/export.py: the checkpoint and the file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ops.data.lists import read_list
from ops.data.readers.base import UnreadableVideo
from ops.export.description import Description
from ops.export.network import SUFFIX, load_exported, run_steps
from ops.export.parity import Parity, check_parity, video_batches
from ops.models import TSN
from ops.predict import Predictor, average_views
from ops.scores.metrics import evaluate, line
from ops.streaming import StreamingTSN
from ops.utils.errors import UserError

VIEW_BATCH = 4  # views that go through the networks at once
BATCH_VIDEOS = 5  # whose clips are also compared in batches


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


def evenly(count: int, wanted: int | None) -> Sequence[int]:
    """At most so many of the numbers below ``count``, at equal distances; None: all."""
    if wanted is None or count <= wanted:
        return range(count)
    return [number * count // wanted for number in range(wanted)]


@dataclass(frozen=True)
class ListScores:
    """How both networks do on a list.

    Attributes:
        parity: over all views, or all frames for a network of single frames.
        videos: number of videos compared.
        listed: number of videos of the list.
        expected, exported: the accuracy of the checkpoint and of the file, in words.
    """

    parity: Parity
    videos: int
    listed: int
    expected: str
    exported: str


@torch.inference_mode()
def compare_list(
    predictor: Predictor, pair: Pair, list_path: str, root_path: str, limit: int | None
) -> ListScores:
    """Score the videos of a list with both networks.

    Args:
        predictor: of the checkpoint; its protocol chooses the views.
        pair: both networks.
        list_path: the list.
        root_path: what its paths are relative to.
        limit: at most so many videos; None: all.

    Raises:
        UserError: the list is wrong, or a video cannot be read.
    """
    videos = read_list(
        list_path,
        root_path=root_path,
        num_class=predictor.model.num_class,
        multi_label=predictor.multi_label,
    )
    numbers = evenly(len(videos), limit)
    parity = Parity(pair.precision)
    scores = {"expected": [], "exported": []}
    first_clips = []
    bar = tqdm(numbers, desc="comparing", unit="video", disable=None, leave=False)
    for number in bar:
        record = videos[number]
        try:
            views = predictor.views(record.path)
        except UnreadableVideo as error:
            raise UserError(f"{list_path}:{record.line}: {record.id}: {error.reason}") from None
        if len(first_clips) < BATCH_VIDEOS:
            first_clips.append(views[:1])
        expected = torch.cat([pair.network(part) for part in views.split(VIEW_BATCH)])
        exported = torch.cat([pair.exported(part) for part in views.split(VIEW_BATCH)])
        parity.add(expected, exported)
        for name, own in (("expected", expected), ("exported", exported)):
            of_views = own.mean(1).numpy()
            scores[name].append(
                average_views(of_views, predictor.protocol.average, predictor.multi_label)
            )
    batches = video_batches(torch.cat(first_clips))
    parity.merge(check_parity(pair.network, pair.exported, batches, pair.precision))
    labels = videos.labels[list(numbers)]
    accuracy = {
        name: line(evaluate(np.stack(of_videos), labels)) for name, of_videos in scores.items()
    }
    return ListScores(parity, len(numbers), len(videos), accuracy["expected"], accuracy["exported"])
