"""TSN, the network of all models: preprocess -> backbone (+ module) -> head -> consensus.

Follows Temporal Segment Networks (Wang et al., ECCV 2016, arXiv 1608.00859): one 2D network with
shared weights processes T segments of a video, and their class scores are averaged. A frame is a
picture (RGB), five steps of optical flow (Flow) or five differences of pictures (RGBDiff), as in
its section 3.2.
"""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ops.backbones import build_backbone
from ops.backbones.input_channels import set_input_channels
from ops.backbones.modalities import MODALITIES
from ops.backbones.norms import batch_norms
from ops.backbones.pixels import usual_scale_size
from ops.backbones.pretrained import load_pretrained
from ops.temporal import MODULES, resolve_options
from ops.temporal.consensus import CONSENSUS
from ops.temporal.insertion import insert
from ops.temporal.non_local import NonLocal
from ops.utils.errors import UserError

NORMALIZATION = ("mean", "std")
PICTURE_DIMS = 4  # [N, C, H, W]


class TSN(nn.Module):
    """A 2D backbone with a temporal module, applied to T segments of L frames.

    Args:
        num_class: number of classes.
        num_segments: T.
        arch: name of the backbone (``ops.backbones.BACKBONES``).
        module: name of the temporal module (``ops.temporal.MODULES``); "tsn" has none.
        modality: "RGB", "Flow" (5 pairs of x and y per segment) or "RGBDiff" (6 pictures per
            segment, subtracted here).
        dropout: probability of dropping a feature before the classifier.
        consensus: "avg" gives ``[B, num_class]``, "identity" the scores of all segments,
            ``[B, T, num_class]``.
        non_local: also insert non-local blocks into the second and third stage.
        temporal_pool: halve the segments after the first stage; ``consensus`` then receives T / 2.
        pretrain: initial weights of the backbone: "imagenet" (torchvision's IMAGENET1K_V1),
            "none", or a state dict with the backbone's own names.
        stochastic_depth: probability that a clip skips the last block in training, falling
            linearly to the first.
        partial_bn: train only the first BatchNorm; the others keep their statistics and parameters.
        input_size: side of the square crops the model is trained on, kept for testing.
        **options: of the temporal module (``MODULES[module].options``); None is not given.

    Raises:
        UserError: an unknown name, arguments that exclude each other, or pretrained weights that
            do not fit or cannot be downloaded.
    """

    _partial_bn = False
    _frozen = frozenset()

    def __init__(
        self,
        num_class,
        num_segments=8,
        *,
        arch="resnet50",
        module="tsn",
        modality="RGB",
        dropout=0.5,
        consensus="avg",
        non_local=False,
        temporal_pool=False,
        stochastic_depth=0.0,
        pretrain="none",
        partial_bn=False,
        input_size=224,
        **options,
    ):
        super().__init__()
        _check_known("--module", module, MODULES)
        _check_known("--modality", modality, MODALITIES)
        _check_known("--consensus_type", consensus, CONSENSUS)
        if num_class < 1 or num_segments < 1:
            raise UserError(
                f"a model needs at least 1 class and 1 segment, not {num_class} and {num_segments}"
            )
        entry = MODULES[module]
        _check_modality(module, modality)
        options = resolve_options(module, options)
        self.spec = {
            "num_class": num_class,
            "num_segments": num_segments,
            "arch": arch,
            "module": module,
            "modality": modality,
            "dropout": dropout,
            "consensus": consensus,
            "non_local": non_local,
            "temporal_pool": temporal_pool,
            "stochastic_depth": stochastic_depth,
            "input_size": input_size,
            **options,
        }
        self.num_class = num_class
        self.num_segments = num_segments
        channels, frames, inputs = MODALITIES[modality]
        self.frames_per_segment = frames or entry.frames_per_segment
        self.frame_channels = channels * self.frames_per_segment
        self.input_size = input_size
        self.backbone = build_backbone(arch)
        set_input_channels(self.backbone, inputs)
        if pretrain != "none":
            load_pretrained(self.backbone, arch, pretrain)
        insert(
            module,
            self.backbone,
            num_segments,
            non_local=non_local,
            temporal_pool=temporal_pool,
            stochastic_depth=stochastic_depth,
            pretrained=pretrain != "none",
            arch=arch,
            **options,
        )
        self.scored_segments = num_segments
        if temporal_pool:
            self.scored_segments = num_segments // 2
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.feature_dim, num_class)
        nn.init.normal_(self.head.weight, 0, 0.001)
        nn.init.zeros_(self.head.bias)
        self.consensus = CONSENSUS[consensus]
        self.modality = modality
        self.pixels = self.backbone.pixels
        if modality == "Flow":
            self.pixels = self.pixels.of_flow()
        for name in NORMALIZATION:
            values = torch.tensor(getattr(self.pixels, name)) * self.pixels.scale
            values = values.repeat(self.frame_channels // len(values)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.channels_last = False
        self.partial_bn = partial_bn

    @property
    def scale_size(self):
        """Short side of a frame before the test crop, pixels."""
        return usual_scale_size(self.input_size)

    def forward(self, clip):
        """Class scores (logits) of a batch of clips.

        Args:
            clip: ``[B, T, L*C, H, W]`` or flattened to ``[B, T*L*C, H, W]``; uint8 is pixels as
                they are read (RGB; x, y of flow), floating point is already normalised.

        Returns:
            ``[B, num_class]`` (consensus "avg") or ``[B, T, num_class]`` ("identity").

        Raises:
            ValueError: a clip of another T, L or C.
        """
        scores = self.head(self.dropout(self._features(clip)))
        return self.consensus(scores.unflatten(0, (-1, self.scored_segments)))

    def features(self, clip):
        """Features before the classifier.

        Args:
            clip: as of :meth:`forward`.

        Returns:
            ``[B, T', D]``, floating point. T' is T, or T / 2 with ``temporal_pool``.

        Raises:
            ValueError: a clip of another T, L or C.
        """
        return self._features(clip).unflatten(0, (-1, self.scored_segments))

    def _features(self, clip):
        """``[B*T', D]``."""
        # T from the constructor: the temporal modules were built for it.
        segments = self.num_segments
        channels = self.frame_channels
        if tuple(clip.shape[1:-2]) not in ((segments, channels), (segments * channels,)):
            raise ValueError(
                f"a clip of this model is [B, {segments}, {channels}, H, W] or "
                f"[B, {segments * channels}, H, W], not {list(clip.shape)}"
            )
        frames = clip.reshape(-1, channels, *clip.shape[-2:])
        return self.backbone(self.preprocess(frames))

    @property
    def is_framewise(self):
        """Whether each segment is processed on its own, as in a plain TSN."""
        spec = self.spec
        return spec["module"] == "tsn" and not spec["non_local"] and not spec["temporal_pool"]

    def segment_features(self, segments):
        """Features of single segments of a model that does not mix them.

        Args:
            segments: ``[N, L*C, H, W]``, uint8 or normalised.

        Returns:
            ``[N, D]``; ``head`` gives their class scores, whose mean is that of a clip.

        Raises:
            ValueError: the model mixes segments (``is_framewise``).
        """
        if not self.is_framewise:
            raise ValueError(f"a {self.spec['module']} has no features of single segments")
        return self.backbone(self.preprocess(segments))

    def preprocess(self, frames):
        """The input of the backbone.

        RGBDiff becomes ``[N, (L-1)*C, H, W]``, the differences of neighbours. Of pixels these are
        ``(v[k+1] - v[k]) / scale`` in training and test alike (tsn-pytorch trains so, but tests
        ResNets with the mean and deviation of pictures).

        Args:
            frames: ``[N, L*C, H, W]``; uint8 pixels are normalised as the backbone expects,
                floating-point frames are not.

        Returns:
            ``[N, inputs, H, W]``, floating point.
        """
        layout = torch.contiguous_format
        if self.channels_last:
            layout = torch.channels_last
        if frames.dtype != torch.uint8:
            if self.modality == "RGBDiff":
                frames = _differences(frames)
            return frames.contiguous(memory_format=layout)
        if self.pixels.order == "BGR":
            frames = frames.unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
        frames = frames.to(self.mean.dtype, memory_format=layout)
        if self.modality == "RGBDiff":
            return _differences(frames).contiguous(memory_format=layout).div_(self.pixels.scale)
        return frames.sub_(self.mean).div_(self.std)

    def to_channels_last(self):
        """Keep conv weights and activations in channels-last order, in place.

        Faster on CPUs and on GPUs with tensor cores. Returns the model.
        """
        self.channels_last = True
        if all(parameter.dim() <= PICTURE_DIMS for parameter in self.parameters()):
            return self.to(memory_format=torch.channels_last)
        # self.to fails on weights of five dimensions (Conv3d): convert the others one by one.
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.dim() == PICTURE_DIMS:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.dim() == PICTURE_DIMS:
                    setattr(module, name, buffer.to(memory_format=torch.channels_last))
        return self

    @property
    def partial_bn(self):
        """Whether only the first BatchNorm of the backbone is trained (TSN's partial BN).

        May be switched at any time.
        """
        return self._partial_bn

    @partial_bn.setter
    def partial_bn(self, on):
        self._partial_bn = on
        for bn in self._later_norms():
            bn.requires_grad_(not on and bn not in self._frozen)
        self.train(self.training)

    def _later_norms(self):
        """The BatchNorms that partial BN freezes: all but the first and those of exempt modules."""
        exempt = {m for module in self._exempt_modules() for m in module.modules()}
        return [bn for bn in batch_norms(self.backbone)[1:] if bn not in exempt]

    def _exempt_modules(self):
        """The inserted modules whose BatchNorms partial BN leaves alone."""
        # The BatchNorm of a non-local block starts at zero: frozen, the block would never learn.
        exempt = [m for m in self.backbone.modules() if isinstance(m, NonLocal)]
        entry = MODULES[self.spec["module"]]
        if entry.partial_bn_freezes:
            return exempt
        if entry.stem:
            exempt.append(self.backbone.stem)
        if entry.module_class:
            slot = entry.slot_for(self.spec)
            blocks = [block for stage in self.backbone.stages() for block in stage]
            exempt += [getattr(block, slot) for block in blocks if slot in block.slots]
        return exempt

    def freeze(self, modules):
        """Do not train these modules from now on; in training they compute as in evaluation.

        Args:
            modules: of the backbone. Each stands for itself, not for its children.
        """
        self._frozen = {*self._frozen, *modules}
        for module in self._frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode=True):
        """As ``nn.Module.train``; frozen modules stay in eval mode.

        So do the later BatchNorms under partial BN.
        """
        super().train(mode)
        if mode and self._partial_bn:
            for bn in self._later_norms():
                bn.eval()
        for module in self._frozen:
            module.training = False  # its children may be in training mode
        return self


def _differences(frames):
    """``[N, L*3, H, W]`` to ``[N, (L-1)*3, H, W]``: each frame minus the one before."""
    return frames[:, 3:] - frames[:, :-3]


def _check_known(flag, value, known):
    if value not in known:
        raise UserError(f"{flag} {value}: unknown; known are {', '.join(known)}")


def _check_modality(module, modality):
    """Raise UserError, naming modules that fit, if a module cannot process a modality."""
    allowed = MODULES[module].modalities
    if modality in allowed:
        return
    others = [name for name, entry in MODULES.items() if modality in entry.modalities]
    raise UserError(
        f"--module {module} takes {', '.join(allowed)} only; for {modality} use --module "
        f"{', '.join(others[:-1])} or {others[-1]}"
    )


def fuse_batch_norm(model):
    """Fold every BatchNorm into the conv before it, in place, for inference.

    The outputs are the same to rounding. The pairs are found by name: ``bn1`` after ``conv1``,
    ``x_bn`` after ``x``, a number after the number before it (``downsample.1`` after
    ``downsample.0``), ``bn`` after ``conv``.

    Args:
        model: in eval mode.

    Returns:
        the model.

    Raises:
        ValueError: the model is in training mode, or a BatchNorm has no such conv.
    """
    if model.training:
        raise ValueError(
            "fuse_batch_norm needs a model in eval mode: folding freezes the running statistics"
        )
    for parent in model.modules():
        children = dict(parent.named_children())
        for name, bn in children.items():
            if not isinstance(bn, nn.BatchNorm2d):
                continue
            conv = _conv_before(name)
            if not isinstance(children.get(conv), nn.Conv2d):
                raise ValueError(
                    f"fuse_batch_norm finds no conv before {name} in a {type(parent).__name__}"
                )
            setattr(parent, conv, fuse_conv_bn_eval(children[conv], bn))
            # In eval mode, as TDN asks the layer in this place which mode it is in.
            setattr(parent, name, nn.Identity().eval())
    return model


def _conv_before(name):
    """Name of the conv whose outputs the BatchNorm of this name normalises."""
    if name.isdigit():
        return str(int(name) - 1)
    if "_" in name:
        return name.removesuffix("_bn")
    return name.replace("bn", "conv")
