"""One test, from its first video to its score files.

Missing videos are scored into a journal, then the journal becomes score files. A test that is
interrupted at any moment resumes when it is started again, and leaves the same files as one that
was never interrupted. Afterwards ``OUTPUT_DIR`` contains ``{clip}_crop{crop}.pkl``
(``ops/scores/pickle_file.py``), ``scores.json`` (``ops/scores/metadata.py``) and ``failures.csv``;
while the test runs, it contains ``unfinished/`` (``ops/testing/journal.py``).
"""

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ops.data.clips import Failure, TestDataset
from ops.data.datasets import Dataset
from ops.data.labels import mark_unread, of_row
from ops.data.loader import LoaderError, QueueSampler, loader_errors, make_loader
from ops.distributed import World
from ops.export.network import ExportedNetwork
from ops.inference import Pace, score_views, to_device
from ops.models import TSN, fuse_batch_norm
from ops.scores.metadata import (
    ScoreMetadata,
    protocol_line,
    read_metadata,
    write_failures,
    write_metadata,
)
from ops.scores.npz_file import load_npz, save_npz
from ops.scores.pickle_file import ScoreWriter, load_scores, score_path
from ops.scores.source import Aggregation, ScoreSource, load_source
from ops.testing import TORCH, journal
from ops.testing.runtime import exported_network
from ops.utils.compiled import CompiledNetwork
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

# How far the mean of saved segments may be from the score files of the same network: they differ by
# rounding, that of --amp included.
_SEGMENTS_TOLERANCE = 0.02


class TestRun(NamedTuple):
    """One network, and the videos that it is tested on.

    Attributes:
        model: the network, on the CPU.
        data: the dataset that the list belongs to.
        dataset: the videos, clips and crops.
        metadata: what ``scores.json`` will contain of this run.
        folder: the score directory.
        save_scores: the ``.npz`` file for the scores of all segments, or None.
    """

    __test__ = False  # not a test case of pytest, whatever its name begins with

    model: TSN
    data: Dataset
    dataset: TestDataset
    metadata: ScoreMetadata
    folder: Path
    save_scores: str | None = None

    @property
    def views(self) -> list[tuple[int, int]]:
        """(clip, crop) of each view of a video, in the order of its logits."""
        crops = range(self.metadata.protocol["crops"])
        return [(clip, crop) for clip in self.metadata.clips for crop in crops]

    @property
    def scores_per_view(self) -> int:
        """Rows of scores in the journal for each view.

        The first is that of the clip. Those of its segments follow if they are saved, too.
        """
        if self.save_scores:
            return 1 + self.model.scored_segments
        return 1

    @property
    def line(self) -> str:
        """The protocol in words."""
        return _describe(self.metadata)

    def path(self, clip: int, crop: int) -> Path:
        """The score file of a view."""
        return score_path(self.folder, clip, crop)

    def open_journal(self) -> journal.Journal:
        """The videos that this run or an interrupted one has finished."""
        values = len(self.views) * self.scores_per_view * self.model.num_class
        return journal.Journal(self.folder / journal.FOLDER, len(self.dataset), values)


def _describe(metadata: ScoreMetadata) -> str:
    protocol = metadata.protocol
    fusion = Aggregation().describe(protocol["average"], "clips")
    line = protocol_line(
        metadata, len(metadata.clips), protocol["crops"], len(metadata.ids), fusion
    )
    if len(metadata.clips) == 1:
        return f"clip {metadata.clips[0]}, {line}"
    return line


def score(args: argparse.Namespace, test: TestRun, world: World, name: str) -> None:
    """Score the videos that are not scored yet, and write the score files.

    Every process works on the same list; the main process holds the lock of the directory.

    Args:
        args: the flags of the test scripts.
        test: what to score.
        world: the processes.
        name: of this test among those of the run.

    Raises:
        UserError: a video or a file stops the test.
    """
    unfinished = test.folder / journal.FOLDER
    todo = None
    if world.is_main:
        if _is_scored(test):
            print(
                f"{test.folder}: scored already with the same weights and protocol; "
                "reading the scores there"
            )
            # A run that was interrupted just before it removed its journal has left it.
            journal.remove(unfinished)
        else:
            todo = _begin(args, test, world)
    todo = world.from_main(todo)
    if todo is None:
        return
    rows, number = todo
    if len(rows):
        with journal.JournalWriter(unfinished, number + world.rank) as log:
            queue = QueueSampler(rows, world.counter(name))
            pace = score_missing(args, test, world, queue, log)
        world.barrier()  # all log files are complete
        if world.is_main:
            print(pace.text)
    if not world.is_main:
        return
    try:
        finished = test.open_journal()
        write_score_files(test, finished)
        if test.save_scores:
            save_segments(test, finished)
    except OSError as error:
        raise UserError(
            f"{test.folder}: the score files cannot be written ({error.strerror}); "
            "all videos are scored: free some space, and start the same command again"
        ) from None
    journal.remove(unfinished)


def _is_scored(test: TestRun) -> bool:
    """Whether the directory already contains all scores of this run."""
    metadata = read_metadata(test.folder)
    if metadata is None or not set(test.metadata.clips) <= set(metadata.clips):
        return False
    if not all(test.path(*view).exists() for view in test.views):
        return False
    return not test.save_scores or _segments_are_saved(test)


def _begin(args: argparse.Namespace, test: TestRun, world: World) -> tuple[np.ndarray, int]:
    """Open the journal; returns the rows to score and the number of the next log file."""
    write_metadata(test.folder / journal.FOLDER, test.metadata)
    finished = test.open_journal()
    rows = finished.missing()
    videos = len(test.dataset)
    before = ""
    if len(rows) < videos:
        before = f", {videos - len(rows)} of them scored before"
    print(f"scoring {videos} videos{before} on {world.size} x {world.device}, amp {args.amp}")
    return rows, finished.next_number


def score_missing(
    args: argparse.Namespace,
    test: TestRun,
    world: World,
    queue: QueueSampler,
    log: journal.JournalWriter,
) -> Pace:
    """Score the videos of the queue into the log file of this process."""
    model = _network(args, test, world)
    loader = make_loader(
        test.dataset,
        queue,
        None,
        workers=args.workers,
        timeout=args.timeout,
        in_order=False,
        pin_memory=world.device.type == "cuda",
    )
    if loader.plan.warning and world.is_main:
        print(f"warning: {loader.plan.warning}")
    on_scores, on_failure = _callbacks(args, test, log)
    try:
        with loader, loader_errors(loader):
            return score_views(
                model,
                loader,
                world,
                on_scores,
                on_failure,
                amp=args.amp,
                batch_size=args.batch_size,
                view_batch=args.view_batch,
                total=len(queue.indices),
                keep_segments=bool(test.save_scores),
            )
    except LoaderError as error:
        raise UserError(
            f"{error}; the scores so far are kept: start the same command again"
        ) from None


def _network(
    args: argparse.Namespace, test: TestRun, world: World
) -> TSN | CompiledNetwork | ExportedNetwork:
    """The network of a test as its flags run it."""
    if args.runtime != TORCH:
        return exported_network(test.model, test.dataset, args.runtime, args.fuse_bn)
    model = to_device(test.model, world.device)
    if args.fuse_bn:
        fuse_batch_norm(model)
    if args.channels_last:
        model.to_channels_last()
    if args.compile:
        views = args.batch_size * test.dataset.transform.num_crops
        model = CompiledNetwork(model, min(views, args.view_batch or views))
    return model


def _callbacks(
    args: argparse.Namespace, test: TestRun, log: journal.JournalWriter
) -> tuple[Callable[[int, np.ndarray], None], Callable[[Failure], None]]:
    """What to do with the scores of a video, and with a video that cannot be read."""
    videos = test.dataset.video_list

    def on_scores(row: int, logits: np.ndarray) -> None:
        if not np.isfinite(logits).all():
            raise UserError(
                f"{videos.path}:{videos[row].line}: {videos[row].id}: its scores are not finite; "
                f"the checkpoint is damaged, or its values are too large for --amp {args.amp}"
            )
        log.add(row, logits)

    def on_failure(failure: Failure) -> None:
        message = f"{videos.path}:{failure.line}: {failure.id}: {failure.reason}"
        if args.on_error == "stop":
            raise UserError(
                f"{message}; correct the list, or count such videos as wrong with "
                "--on-error count-wrong"
            )
        tqdm.write(f"warning: {message}; counted as wrong")
        log.fail(failure.index, failure.reason)

    return on_scores, on_failure


def write_score_files(test: TestRun, finished: journal.Journal) -> None:
    """Write the score files, ``failures.csv`` and ``scores.json``.

    All score files are written in one pass over the journal, so each video is read once.

    Raises:
        UserError: videos are missing in the journal, or no video could be read.
    """
    _check_complete(test, finished)
    num_class = test.model.num_class
    labels = test.metadata.labels
    with contextlib.ExitStack() as files:
        writers = []
        for view in test.views:
            file = files.enter_context(atomic_write(test.path(*view)))
            writers.append(ScoreWriter(file, num_class))
        for row in range(len(labels)):
            logits = finished.logits(row)
            if logits is None:
                logits = _unread_scores(test, len(writers), row)
            else:
                logits = logits.reshape(len(writers), test.scores_per_view, num_class)[:, 0]
            for writer, of_view in zip(writers, logits, strict=True):
                writer.write(of_view, of_row(labels, row))
        for writer in writers:
            writer.close()
    metadata = _with_earlier_clips(test, finished)
    write_failures(test.folder / "failures.csv", metadata.failures)
    write_metadata(test.folder, metadata)


def _check_complete(test: TestRun, finished: journal.Journal) -> None:
    missing = finished.missing()
    if missing.size:
        raise UserError(
            f"{test.folder}: {missing.size} videos are missing in the journal; "
            "do all machines share the disk of --output_dir?"
        )
    if len(finished.failures) == len(test.metadata.ids):
        row, reason = next(iter(finished.failures.items()))
        raise UserError(
            f"none of {len(test.metadata.ids)} videos could be read; the first: "
            f"{test.metadata.ids[row]}: {reason}; "
            f"remove {test.folder / journal.FOLDER} before the next try"
        )


def _with_earlier_clips(test: TestRun, finished: journal.Journal) -> ScoreMetadata:
    """The metadata of the directory: of this run and of earlier ones with other clips."""
    clips = test.metadata.clips
    failures = []
    all_clips = set(clips)
    earlier = read_metadata(test.folder)
    if earlier:
        all_clips.update(earlier.clips)
        for failure in earlier.failures:
            other_clips = [clip for clip in failure["clips"] if clip not in clips]
            if other_clips:
                failures.append({**failure, "clips": other_clips})
    videos = test.dataset.video_list
    for row, reason in sorted(finished.failures.items()):
        failures.append(
            {
                "row": row,
                "line": videos[row].line,
                "id": videos[row].id,
                "reason": reason,
                "clips": clips,
            }
        )
    return test.metadata._replace(clips=sorted(all_clips), failures=failures)


def _unread_scores(test: TestRun, count: int, row: int) -> np.ndarray:
    """Scores float32 ``[count, classes]`` of an unreadable video: its class ranks last."""
    scores = np.zeros((count, test.model.num_class), np.float32)
    labels = np.repeat(test.metadata.labels[row : row + 1], count, axis=0)
    mark_unread(scores, labels, slice(None))
    return scores


def save_segments(test: TestRun, finished: journal.Journal) -> None:
    """Write the scores of all segments to an ``.npz`` file, as tsn-pytorch and Caffe TSN do.

    A frame of that file is a segment, clip after clip.
    """
    clips = len(test.metadata.clips)
    crops = test.metadata.protocol["crops"]
    segments = test.model.scored_segments
    num_class = test.model.num_class
    videos = len(test.metadata.ids)
    frames = np.empty((videos, clips * segments, crops, num_class), np.float32)
    for row, of_video in enumerate(frames):
        scores = finished.logits(row)
        if scores is None:
            scores = _unread_scores(test, clips * segments * crops, row)
        else:
            scores = scores.reshape(clips, crops, 1 + segments, num_class)[:, :, 1:]
            scores = scores.transpose(0, 2, 1, 3)
        of_video[:] = scores.reshape(of_video.shape)
    save_npz(test.save_scores, frames, test.metadata.labels, test.metadata.ids)


def _segments_are_saved(test: TestRun) -> bool:
    """Whether the ``.npz`` file already contains the segments of the score files of this test."""
    if not Path(test.save_scores).exists():
        return False
    try:
        saved = load_npz(test.save_scores)
    except UserError:
        return False
    segments = len(test.metadata.clips) * test.model.scored_segments
    shape = (segments, test.metadata.protocol["crops"], test.model.num_class)
    if saved.ids != list(test.metadata.ids):
        return False
    if any(video.shape != shape for video in saved.scores):
        return False
    scores = np.mean([load_scores(test.path(*view))[0] for view in test.views], axis=0)
    means = np.stack([video.mean((0, 1)) for video in saved.scores])
    return np.allclose(
        scores,
        means,
        rtol=_SEGMENTS_TOLERANCE,
        atol=_SEGMENTS_TOLERANCE * max(scores.std(), 1e-6),
    )


def read_source(test: TestRun) -> ScoreSource:
    """The scores in the directory of a finished test, averaged over the views of all its runs."""
    metadata = read_metadata(test.folder)
    source = load_source(
        str(test.folder), Aggregation(), metadata.clips, metadata.protocol["crops"]
    )
    return source._replace(protocol_line=_describe(metadata))
