"""One test, from its first video to its score files: what is missing is scored into logs, then the logs become files.

A test that is stopped at any moment and started again goes on where it was, and leaves the files of one that was never
stopped. ``OUTPUT_DIR`` then holds ``{clip}_crop{crop}.pkl`` (``ops/scores.py``), ``scores.json``
(``ops/score/score_folder.py``) and ``failures.csv``; while the test runs, ``unfinished/`` (``ops/score/score_log.py``).
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops import distributed, scores
from ops.aggregation import view_sum
from ops.data.clips import TestDataset
from ops.data.datasets import Dataset
from ops.data.loader import LoaderError, QueueSampler, loader_errors, make_loader
from ops.errors import UserError
from ops.files import atomic_write
from ops.fusion import Source
from ops.labels import is_unread, mark_unread, of_row
from ops.models import TSN, fuse_batch_norm
from ops.score import score_log
from ops.score.npz_scores import save_npz
from ops.score.score_folder import Facts, read_facts, write_facts, write_failures
from ops.score.scoring import score_views


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
        return start + scores.protocol_line(
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
        return scores.score_path(self.folder, clip, crop)


def score(args, test, world, name):
    """Score what is not yet scored, write the score files, and return the facts of the directory, on the main process.

    name: of this test among those of the run. Every process works on the same videos; the main one has the lock.
    """
    unfinished, videos, values = (
        test.folder / score_log.FOLDER,
        len(test.dataset),
        len(test.views) * test.model.num_class,
    )
    plan = None
    if world.is_main:
        facts = read_facts(test.folder)
        if (
            facts
            and set(test.facts.clips) <= set(facts.clips)
            and all(test.path(*view).exists() for view in test.views)
        ):
            print(
                f"{test.folder}: scored already, by the same weights and protocol; reading the scores there"
            )
            score_log.remove(
                unfinished
            )  # where the run that scored them ended just before it would have done so
        else:
            write_facts(unfinished, test.facts)
            finished = score_log.Finished(unfinished, videos, values)
            plan = finished.missing(), finished.next_number
            before = (
                f", {videos - len(plan[0])} of them scored before" if len(plan[0]) < videos else ""
            )
            print(
                f"scoring {videos} videos{before} on {world.size} x {world.device}, amp {args.amp}"
            )
    plan = distributed.from_main(plan)
    if plan is None:
        return facts if world.is_main else None
    missing, number = plan
    if len(missing):
        with score_log.ScoreLog(unfinished, number + world.rank) as log:
            pace = score_missing(args, test, world, QueueSampler(missing, world.counter(name)), log)
        distributed.barrier()  # all logs are complete
        if world.is_main:
            print(pace.text)
    if not world.is_main:
        return None
    try:
        facts = write(test, score_log.Finished(unfinished, videos, values))
    except OSError as error:
        raise UserError(
            f"{test.folder}: the score files cannot be written ({error.strerror}); all is scored: make room, and "
            f"start the same command again"
        ) from None
    score_log.remove(unfinished)
    return facts


def score_missing(args, test, world, sampler, log):
    """Score the videos that the sampler gives into the log; returns the :class:`ops.score.scoring.Pace` of this process."""
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
            )
    except LoaderError as error:
        raise UserError(
            f"{error}; the scores so far are kept: start the same command again"
        ) from None


def write(test, finished):
    """Write ``{clip}_crop{k}.pkl`` of each clip and crop, as TDN does, all in one pass over the logs, ``failures.csv`` and
    ``scores.json``. Returns the facts of the directory, this run and earlier ones together."""
    if (missing := finished.missing()).size:
        raise UserError(
            f"{test.folder}: {missing.size} videos are not in the logs; is --output_dir one disk for all machines?"
        )
    if len(finished.failures) == len(test.facts.ids):
        row, reason = next(iter(finished.failures.items()))
        raise UserError(
            f"none of {len(test.facts.ids)} videos could be read; the first: {test.facts.ids[row]}: {reason}; "
            f"remove {test.folder / score_log.FOLDER} before the next try"
        )
    num_class, labels = test.model.num_class, test.facts.labels
    with contextlib.ExitStack() as files:
        writers = [
            scores.ScoreWriter(files.enter_context(atomic_write(test.path(*view))), num_class)
            for view in test.views
        ]
        for row in range(len(labels)):
            logits = finished.logits(row)
            if logits is None:
                logits = np.zeros(len(writers) * num_class, np.float32)
                mark_unread(
                    logits.reshape(len(writers), -1),
                    np.repeat(labels[row : row + 1], len(writers), 0),
                    slice(None),
                )
            for writer, of_view in zip(
                writers, logits.reshape(len(writers), num_class), strict=True
            ):
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
    """The mean over this run's views of each video, read from the score files, as a :class:`ops.fusion.Source`."""
    is_softmax = test.facts.protocol["average"] == "softmax"
    failed = np.zeros(len(test.facts.ids), bool)

    def views():
        for view in test.views:
            logits, labels = scores.load_scores(test.path(*view))
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


def save_views(path, test):
    """Write all scores of a test to one ``.npz`` file, as tsn-pytorch does."""
    views = np.stack([scores.load_scores(test.path(*view))[0] for view in test.views], axis=1)
    crops = test.facts.protocol["crops"]
    save_npz(
        path,
        views.reshape(len(views), -1, crops, test.model.num_class),
        test.facts.labels,
        test.facts.ids,
    )
