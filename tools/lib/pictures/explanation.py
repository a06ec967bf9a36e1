"""What tools/explain.py does after its arguments are parsed."""

import argparse
import difflib
from dataclasses import replace

from lib.pictures.explained_video import ExplainedVideo
from lib.pictures.traced_clips import TracedClip, TracedTestDataset
from ops.data.clips import Failure
from ops.data.lists import VideoList
from ops.explain import Explanation, grad_cam, middle_of_segments, pictures_of
from ops.models import TSN
from ops.predict import Predictor
from ops.scores.aggregation import to_probabilities
from ops.utils.errors import UserError
from ops.utils.text import counted


def write_explanation(args: argparse.Namespace) -> None:
    """Explain the video that the flags name; print the evidence, and draw it."""
    kind = args.out.suffix.lower()
    if kind not in (".png", ".mp4"):
        raise UserError(f"--out {args.out}: give a name that ends with .png or .mp4")
    predictor = Predictor(
        args.weights,
        args.device,
        num_segments=args.num_segments,
        weights_key=args.weights_key,
        class_names=args.class_names,
        crops=1,
        image_tmpl=args.image_tmpl,
        module=args.module,
    )
    explained = explain_video(predictor, args.video, args.wanted, args.stage)
    print_evidence(explained)
    if kind == ".png":
        from lib.pictures.explanation_sheet import draw_sheet
        from lib.pictures.panels import save_panels

        save_panels(args.out, [draw_sheet(explained)])
    else:
        from lib.pictures.explanation_video import write_video

        write_video(args.out, predictor, explained)
    print(f"written {args.out}")


def explain_video(
    predictor: Predictor, path: str, wanted: str | None = None, stage: int | None = None
) -> ExplainedVideo:
    """Predict a video, and explain a class in its clip.

    Args:
        predictor: with one crop.
        path: video file or folder of frames.
        wanted: name or label of the class; None: the predicted one.
        stage: as of :func:`ops.explain.grad_cam`.

    Raises:
        UserError: the video cannot be read, or there is no such class or stage.
    """
    model = predictor.model
    if not isinstance(model, TSN):
        raise UserError("an exported file cannot be explained; give the checkpoint of --weights")
    stages = len(model.backbone.stages())
    if stage is not None and stage > stages:
        raise UserError(f"--stage {stage}: {model.spec['arch']} has stages 1 to {stages}")
    label = None
    if wanted is not None:
        label = label_of(wanted, predictor)
    prediction = predictor(path)
    if prediction.error:
        raise UserError(f"{path}: {prediction.error}; give a video file, or a folder of frames")
    if label is None:
        (label,) = prediction.best_labels(1)
    of_clips = to_probabilities(prediction.views, predictor.multi_label)[:, label]
    number = int(of_clips.argmax())
    traced = read_clip(predictor, path, predictor.protocol.clips[number])
    explanation = grad_cam(model, traced.clip.to(predictor.device), label, stage)
    summary = _summary(model, explanation, traced, number, len(of_clips))
    frames = middle_of_segments(model, traced.indices).tolist()
    pictures = pictures_of(model, traced.clip).numpy()
    return ExplainedVideo(prediction, explanation, traced, pictures, frames, summary)


def label_of(wanted: str, predictor: Predictor) -> int:
    """The label of a class that is given by its name, in any case, or by its label.

    Raises:
        UserError: there is no such class.
    """
    names = predictor.class_names or []
    folded = [name.casefold() for name in names]
    if wanted.casefold() in folded:
        return folded.index(wanted.casefold())
    count = predictor.model.num_class
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    close = difflib.get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.4)
    if close:
        similar = ", ".join(repr(names[folded.index(name)]) for name in close)
        raise UserError(f"--class {wanted!r}: no such class; similar are {similar}")
    raise UserError(
        f"--class {wanted!r}: no such class; give a class name, or a label from 0 to {count - 1}"
    )


def read_clip(predictor: Predictor, path: str, clip: int) -> TracedClip:
    """A clip of a video, as the predictor takes it.

    Args:
        predictor: with one crop.
        path: video file or folder of frames.
        clip: its number.

    Raises:
        UserError: the video cannot be read.
    """
    model = predictor.model
    template = predictor.template_of(path)
    videos = VideoList("input", "", [path], [-1], [0], range(1, 2))
    protocol = replace(predictor.protocol, clips=(clip,))
    dataset = protocol.dataset(model, videos, template, predictor.decoder, TracedTestDataset)
    item = dataset[0, 0]
    if isinstance(item, Failure):
        raise UserError(f"{path}: {item.reason}")
    return item


def _summary(
    model: TSN, explanation: Explanation, traced: TracedClip, number: int, clips: int
) -> str:
    _, height, width = explanation.cells.shape
    parts = [
        f"{model.spec['module']} {model.spec['arch']}",
        f"{counted(model.num_segments, 'segment')} of a video of {counted(traced.total, 'frame')}",
        f"stage {explanation.stage}, {width} x {height} cells",
    ]
    if clips > 1:
        parts.insert(2, f"clip {number + 1} of {clips}")
    return ", ".join(parts)


def print_evidence(explained: ExplainedVideo) -> None:
    """Print the class, its probability, and the share of each frame."""
    print(explained.prediction.path)
    print(f"    {100 * explained.probability:5.1f} %  {explained.name}")
    print(f"evidence: {explained.summary}")
    if not any(explained.shares):
        print("nothing in this clip is evidence for the class")
        return
    for frame, share in zip(explained.frames, explained.shares, strict=True):
        print(f"    {100 * share:5.1f} %  frame {frame}")
