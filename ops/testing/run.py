"""One test, from its first video to its score files: what is missing is scored into logs, then the logs become files.

A test that is stopped at any moment and started again goes on where it was, and leaves the files of one that was never
stopped. ``OUTPUT_DIR`` then holds ``{clip}_crop{crop}.pkl`` (``ops/scores/pickle_file.py``), ``scores.json``
(``ops/scores/metadata.py``) and ``failures.csv``; while the test runs, ``unfinished/`` (``ops/testing/journal.py``).
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops.data.clips import TestDataset
from ops.data.datasets import Dataset
from ops.data.labels import is_unread, mark_unread, of_row
from ops.data.loader import LoaderError, QueueSampler, loader_errors, make_loader
from ops.inference import score_views
from ops.models import TSN, fuse_batch_norm
from ops.scores import pickle_file
from ops.scores.aggregation import view_sum
from ops.scores.fusion import Source
from ops.scores.metadata import Facts, read_facts, write_facts, write_failures
from ops.scores.npz_file import load_npz, save_npz
from ops.testing import journal
from ops.utils.errors import UserError
from ops.utils.files import atomic_write


class Test(NamedTuple):
    """One network and what it is tested on; ``facts`` is what the score directory ``folder`` will say of this run."""

    __test__ = False  # not a test case, whatever its name begins with

    model: TSN
    data: Dataset
    dataset: TestDataset
    facts: Facts
    folder: Path

    @property
    def line(self):
        clips, protocol = self.facts.clips, self.facts.protocol
        start = f"clip {clips[0]}, " if len(clips) == 1 else ""
        return start + pickle_file.protocol_line(
            self.facts,
            len(clips),
            protocol["crops"],
            len(self.facts.ids),
            softmax=protocol["average"] == "softmax",
        )

    @property
    def views(self):
        """(clip, crop) of each row of a video's logits."""
        return [
            (clip, crop)
            for clip in self.facts.clips
            for crop in range(self.facts.protocol["crops"])
        ]

    def path(self, clip, crop):
        return pickle_file.score_path(self.folder, clip, crop)


def score(args, test, world, name):
    """Score what is not yet scored, write the score files, and return the facts of the directory, on the main process.

    name: of this test among those of the run. Every process works on the same videos; the main one has the lock.
    """
    unfinished, videos = test.folder / journal.FOLDER, len(test.dataset)
    kept = 1 + test.model.scored_segments if args.save_scores else 1
    values = len(test.views) * kept * test.model.num_class
    plan = None
    if world.is_main:
        facts = read_facts(test.folder)
        if (
            facts
            and set(test.facts.clips) <= set(facts.clips)
            and all(test.path(*view).exists() for view in test.views)
            and (not args.save_scores or holds_segments(args.save_scores, test))
        ):
            print(
                f"{test.folder}: scored already, by the same weights and protocol; reading the scores there"
            )
            journal.remove(
                unfinished
            )  # where the run that scored them ended just before it would have done so
        else:
            write_facts(unfinished, test.facts)
            finished = journal.Finished(unfinished, videos, values)
            plan = finished.missing(), finished.next_number
            before = (
                f", {videos - len(plan[0])} of them scored before" if len(plan[0]) < videos else ""
            )
            print(
                f"scoring {videos} videos{before} on {world.size} x {world.device}, amp {args.amp}"
            )
    plan = world.from_main(plan)
    if plan is None:
        return facts if world.is_main else None
    missing, number = plan
    if len(missing):
        with journal.ScoreLog(unfinished, number + world.rank) as log:
            pace = score_missing(args, test, world, QueueSampler(missing, world.counter(name)), log)
        world.barrier()  # all logs are complete
        if world.is_main:
            print(pace.text)
    if not world.is_main:
        return None
    try:
        finished = journal.Finished(unfinished, videos, values)
        facts = write(test, finished, kept)
        if args.save_scores:
            save_segments(args.save_scores, test, finished)
    except OSError as error:
        raise UserError(
            f"{test.folder}: the score files cannot be written ({error.strerror}); all is scored: make room, and "
            f"start the same command again"
        ) from None
    journal.remove(unfinished)
    return facts


def score_missing(args, test, world, sampler, log):
    """Score the videos that the sampler gives into the log; returns the :class:`ops.inference.Pace` of this process."""
    model = test.model.to(world.device)
    if args.fuse_bn:
        fuse_batch_norm(model)
    if args.channels_last:
        model.to_channels_last()
    loader = make_loader(
        test.dataset,
        sampler,
        None,
        workers=args.workers,
        timeout=args.timeout,
        in_order=False,
        pin_memory=world.device.type == "cuda",
    )
    if loader.plan.warning and world.is_main:
        print(f"warning: {loader.plan.warning}")
    videos = test.dataset.video_list

    def done(row, logits):
        if not np.isfinite(logits).all():
            raise UserError(
                f"{videos.path}:{videos[row].line}: {videos[row].id}: its scores are not finite; a broken "
                f"checkpoint, or too large numbers for --amp {args.amp}"
            )
        log.add(row, logits)

    def failed(failure):
        message = f"{videos.path}:{failure.line}: {failure.id}: {failure.reason}"
        if args.on_error == "stop":
            raise UserError(
                f"{message}; mend the list, or count such videos as wrong with --on-error count-wrong"
            )
        tqdm.write(f"warning: {message}; counted as wrong")
        log.fail(failure.index, failure.reason)

    try:
        with loader, loader_errors(loader):
            return score_views(
                torch.compile(model) if args.compile else model,
                loader,
                world,
                done,
                failed,
                amp=args.amp,
                batch_size=args.batch_size,
                view_batch=args.view_batch,
                total=len(sampler.indices),
                keep_segments=bool(args.save_scores),
            )
    except LoaderError as error:
        raise UserError(
            f"{error}; the scores so far are kept: start the same command again"
        ) from None


def write(test, finished, kept=1):
    """Write ``{clip}_crop{k}.pkl`` of each clip and crop, as TDN does, all in one pass over the logs, ``failures.csv`` and
    ``scores.json``.

    kept: rows of scores of each view in the logs, of which the first is written. Returns the facts
    of the directory, this run and earlier ones together."""
    if (missing := finished.missing()).size:
        raise UserError(
            f"{test.folder}: {missing.size} videos are not in the logs; is --output_dir one disk for all machines?"
        )
    if len(finished.failures) == len(test.facts.ids):
        row, reason = next(iter(finished.failures.items()))
        raise UserError(
            f"none of {len(test.facts.ids)} videos could be read; the first: {test.facts.ids[row]}: {reason}; "
            f"remove {test.folder / journal.FOLDER} before the next try"
        )
    num_class, labels = test.model.num_class, test.facts.labels
    with contextlib.ExitStack() as files:
        writers = [
            pickle_file.ScoreWriter(files.enter_context(atomic_write(test.path(*view))), num_class)
            for view in test.views
        ]
        for row in range(len(labels)):
            logits = finished.logits(row)
            if logits is None:
                logits = unread_scores(test, len(writers), row)
            else:
                logits = logits.reshape(len(writers), kept, num_class)[:, 0]
            for writer, of_view in zip(writers, logits, strict=True):
                writer.write(of_view, of_row(labels, row))
        for writer in writers:
            writer.close()
    old = read_facts(test.folder)
    failures = []
    for failure in old.failures if old else []:
        others = [clip for clip in failure["clips"] if clip not in test.facts.clips]
        failures += [{**failure, "clips": others}] if others else []
    lines = test.dataset.video_list
    failures += [
        {
            "row": row,
            "line": lines[row].line,
            "id": lines[row].id,
            "reason": reason,
            "clips": test.facts.clips,
        }
        for row, reason in sorted(finished.failures.items())
    ]
    clips = sorted({*test.facts.clips, *(old.clips if old else [])})
    facts = test.facts._replace(clips=clips, failures=failures)
    write_failures(test.folder / "failures.csv", failures)
    write_facts(test.folder, facts)
    return facts


def source_of(test):
    """The mean over this run's views of each video, read from the score files, as a :class:`ops.scores.fusion.Source`."""
    is_softmax = test.facts.protocol["average"] == "softmax"
    failed = np.zeros(len(test.facts.ids), bool)

    def views():
        for view in test.views:
            logits, labels = pickle_file.load_scores(test.path(*view))
            failed[:] |= is_unread(logits, labels)
            yield logits

    mean = view_sum(views(), is_softmax) / len(test.views)
    mark_unread(mean, test.facts.labels, failed)
    return Source(
        str(test.folder),
        mean,
        test.facts.labels,
        test.facts.ids,
        is_softmax,
        test.line,
        failed,
        test.facts,
    )


def unread_scores(test, rows, video):
    """Scores float32 ``[rows, classes]`` of an unreadable video: they rank its class last."""
    pickle_file = np.zeros((rows, test.model.num_class), np.float32)
    mark_unread(pickle_file, np.repeat(test.facts.labels[video : video + 1], rows, 0), slice(None))
    return pickle_file


def save_segments(path, test, finished):
    """Write the scores of all segments to one ``.npz`` file, as tsn-pytorch and Caffe TSN do.

    A frame of it is a segment, clip after clip.
    """
    crops, segments, classes = (
        test.facts.protocol["crops"],
        test.model.scored_segments,
        test.model.num_class,
    )
    clips = len(test.facts.clips)
    frames = np.empty((len(test.facts.ids), clips * segments, crops, classes), np.float32)
    for row, own in enumerate(frames):
        pickle_file = finished.logits(row)
        if pickle_file is None:
            own[:] = unread_scores(test, clips * segments * crops, row).reshape(own.shape)
            continue
        pickle_file = pickle_file.reshape(clips, crops, 1 + segments, classes)[:, :, 1:]
        own[:] = pickle_file.transpose(0, 2, 1, 3).reshape(own.shape)
    save_npz(path, frames, test.facts.labels, test.facts.ids)


def holds_segments(path, test):
    """Whether a file already holds the segments of the score files of this test."""
    if not Path(path).exists():
        return False
    try:
        saved = load_npz(path)
    except UserError:
        return False
    crops = test.facts.protocol["crops"]
    shape = (len(test.facts.clips) * test.model.scored_segments, crops, test.model.num_class)
    if saved.ids != list(test.facts.ids) or any(video.shape != shape for video in saved.scores):
        return False
    views = np.mean([pickle_file.load_scores(test.path(*view))[0] for view in test.views], axis=0)
    means = np.stack([video.mean((0, 1)) for video in saved.scores])
    # Of the same network they differ by rounding, that of --amp included.
    return np.allclose(views, means, rtol=0.02, atol=0.02 * max(views.std(), 1e-6))
