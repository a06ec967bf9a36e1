"""The protocol of a test or a prediction: which views of a video are scored, and their average."""

from collections.abc import Mapping
from dataclasses import dataclass

from ops.checkpoints.manifest import published_sampling
from ops.data.clips import TestDataset
from ops.data.lists import VideoList
from ops.data.sampling import SAMPLINGS
from ops.models import TSN
from ops.scores.metadata import views_in_words
from ops.temporal import MODULES
from ops.utils.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """Which views of a video are scored, and how their scores are averaged.

    Attributes:
        sampling: key of ``SAMPLINGS``.
        clips: numbers of the clips that are scored.
        num_clips: clips that the sampling has in all; None: the usual number.
        crops: crops of a frame: 1, 3, 5 or 10.
        scale_size: short side of a scaled frame, pixels.
        crop_size: side of a crop, pixels.
        average: what is averaged over the views, "logits" or "softmax".
        seed: of samplings that draw clips.
        compat: sample short videos as the originals do.
    """

    sampling: str
    clips: tuple[int, ...]
    num_clips: int | None
    crops: int
    scale_size: int
    crop_size: int
    average: str
    seed: int = 0
    compat: bool = False

    def dataset(
        self, model: TSN, videos: VideoList, image_tmpl: str, decoder: str, kind=TestDataset
    ) -> TestDataset:
        """The views of some videos, as a model takes them.

        Args:
            model: the network.
            videos: the videos.
            image_tmpl: names of the files in a folder of frames.
            decoder: key of ``DECODERS``.
            kind: the class to make, a ``TestDataset``.

        Raises:
            UserError: the sampling has no such clips.
        """
        return kind(
            videos,
            num_segments=model.num_segments,
            frames_per_segment=model.frames_per_segment,
            image_tmpl=image_tmpl,
            decoder=decoder,
            clips=self.clips,
            num_clips=self.num_clips,
            crops=self.crops,
            scale_size=self.scale_size,
            crop_size=self.crop_size,
            sampling=self.sampling,
            seed=self.seed,
            modality=model.modality,
            compat=self.compat,
        )

    def describe(self, model: TSN) -> str:
        """``8 frames x 3 crops x 10 clips, 256, dense sampling, softmax per view``."""
        views = views_in_words(model.num_segments, self.crops, len(self.clips))
        words = [views, str(self.crop_size), f"{self.sampling} sampling"]
        if self.average == "softmax":
            words.append("softmax per view")
        return ", ".join(words)


def choose_protocol(
    model: TSN,
    *,
    sampling: str,
    average: str,
    crops: int = 1,
    clips: int | None = None,
    clip_index: int | None = None,
    full_res: bool = False,
    scale_size: int | None = None,
    crop_size: int | None = None,
    seed: int = 0,
    compat: bool = False,
) -> Protocol:
    """The protocol that flags and defaults give.

    Args:
        model: the network.
        sampling: key of ``SAMPLINGS``.
        average: "logits" or "softmax".
        crops: crops of a frame.
        clips: number of clips; None: the usual one of the sampling.
        clip_index: score this clip only.
        full_res: crops as large as the scaled short side.
        scale_size: short side of a scaled frame; None: 256 for crops of 224, in proportion.
        crop_size: side of a crop; None: the input size of the model.
        seed: of samplings that draw clips.
        compat: sample short videos as the originals do.

    Raises:
        UserError: the crop is larger than the scaled frame.
    """
    scale = scale_size or model.scale_size
    crop = crop_size or (scale if full_res else model.input_size)
    if crop > scale:
        raise UserError(
            f"--crop_size {crop}: larger than the short side of a scaled frame; give "
            f"--scale_size {crop} or more"
        )
    numbers = (clip_index,)
    if clip_index is None:
        numbers = tuple(range(SAMPLINGS[sampling].clips_per_run(clips)))
    return Protocol(sampling, numbers, clips, crops, scale, crop, average, seed, compat)


def default_sampling(model: TSN, dataset: str, test_sampling: str) -> str:
    """The sampling that the network's results were published with.

    Args:
        model: the network.
        dataset: name of the dataset.
        test_sampling: that of the dataset; "random" stands for the choice of the module's authors.
    """
    if model.published and model.published["dataset"] == dataset:
        sampling = published_sampling(model.published)
        if sampling:
            return sampling
    if test_sampling == "random":
        return MODULES[model.spec["module"]].kinetics_sampling
    return test_sampling


def default_average(model: TSN, multi_label: bool) -> str:
    """What the authors of the network average over the views of a video."""
    if multi_label:
        return "logits"
    return model.average or MODULES[model.spec["module"]].average


def published_result(entry: Mapping | None, frames: int) -> Mapping | None:
    """The published result with the fewest views, whose protocol a prediction follows.

    Args:
        entry: of the manifest, or None.
        frames: T of the network; results of another T do not count.

    Returns:
        The result, with ``sampling``, ``clips``, ``crops`` and ``size`` (None: not published), or
        None.
    """
    results = entry["expected"] if entry else []
    fitting = [result for result in results if result["frames"] in (None, frames)]
    return min(fitting, key=_views, default=None)


def _views(result: Mapping) -> int:
    return (result["clips"] or 1) * (result["crops"] or 1)
