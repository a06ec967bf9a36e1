"""``benchmark.py model`` and ``benchmark.py flops``: the original networks and ours."""

import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.benchmarks import baselines_model
from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.baselines_temporal import three_slices
from lib.measure import compare, interleave, machine, table
from ops.checkpoints import load_model
from ops.models import TSN, fuse_batch_norm
from ops.temporal.difference import TemporalConv
from ops.temporal.shift import TemporalShift
from ops.utils.amp import autocast
from ops.utils.compiled import CompiledNetwork
from ops.utils.errors import UserError

# Two networks are the same function if their float32 logits differ by less, relatively.
SAME = 1e-5


class Way(NamedTuple):
    """How ours runs."""

    channels_last: bool
    folded: bool
    compiled: bool
    amp: str


WAYS = {
    "NCHW fp32": Way(False, False, False, "none"),
    "channels-last fp32": Way(True, False, False, "none"),
    "channels-last bf16": Way(True, False, False, "bf16"),
    "channels-last fp32, folded BN": Way(True, True, False, "none"),
    "channels-last bf16, folded BN": Way(True, True, False, "bf16"),
    "channels-last fp32, compiled": Way(True, False, True, "none"),
    "channels-last bf16, compiled": Way(True, False, True, "bf16"),
    "channels-last bf16, folded BN, compiled": Way(True, True, True, "bf16"),
}

COMPILED = ", compiled"

# Channels and side of the feature maps that a ResNet-50 shifts at 224 x 224.
SHIFTED = ((64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7))


def model(args):
    """Print the time of inference or of a training step of each module."""
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU; use --device cpu")
    work = "training step" if args.train else "inference"
    print(machine("torch", "torchvision"))
    print(
        f"{work} of {args.batch} clip(s) of {args.segments} segments at {args.size}x{args.size}, "
        f"{args.arch}, {args.device}, {args.rounds} rounds; original: NCHW fp32"
    )
    for module in args.modules:
        measure_module(module, args)
    if "tsm" in args.modules and args.train:
        shift(args)


def measure_module(module, args):
    """Print the table of one module."""
    make_step = train_step if args.train else inference
    steps, logits, kept, compiling = {}, {}, {}, {}
    for name, network, clip, amp in networks(module, args):
        step = make_step(network, clip, amp)
        steps[name] = step
        kept[name] = ""
        if isinstance(network, CompiledNetwork):
            started = time.perf_counter()
            step(0)
            compiling[name] = time.perf_counter() - started
        elif args.train:
            kept[name] = f"{bytes_for_backward(network, step) / 2**20:.0f}"
        logits[name] = step(0).float()
    differences = logit_differences(logits)
    if not args.train:
        check_same(module, differences)
    cases = dict(steps)
    with_tsn = args.train and module in targets.TSN_SHARE
    if with_tsn:
        for name, network, clip, amp in networks("tsn", args):
            cases["tsn", name] = train_step(network, clip, amp)
    times = interleave(cases, args.rounds, args.device)
    ratios, share_target = {}, None
    if targets.is_standard(args):
        ratios = targets.MODEL.get((module, args.train), {})
        share_target = targets.TSN_SHARE.get(module)
    rows = []
    for name in steps:
        share = ("", "", "")
        if with_tsn:
            target = share_target if name in targets.TSN_SHARE_WAYS else None
            share = compare_share(times[name] / times["tsn", name], target)
        cells = compare(times["original"], times[name], ratios.get(name))
        difference = f"{differences[name]:.0e}"
        compiled = ("", "")
        if name in compiling:
            eager = times[name.removesuffix(COMPILED)]
            compiled = describe_compiling(compiling[name], eager, times[name])
        own = (difference, kept[name])
        rows.append((name, f"{times[name]:.1f}", *cells, *own, *share, *compiled))
    print()
    titles = ("ms", "ratio", "target", "", "logits differ", "MB for backward")
    share_titles = ("TSN's time", "target", "")
    table((module, *titles, *share_titles, "compiling s", "pays off after"), rows)


def logit_differences(logits):
    """The largest difference from the logits of the original, relative to the largest of those."""
    expected = logits["original"]
    scale = expected.abs().max()
    return {name: ((value - expected).abs().max() / scale).item() for name, value in logits.items()}


def check_same(module, differences):
    """Raise UserError if a float32 network is not the function of the original."""
    for name, difference in differences.items():
        if difference > SAME and "bf16" not in name:
            raise UserError(
                f"{module}, {name}: logits differ from the original's by {difference:.1e}"
            )


def describe_compiling(seconds, eager, compiled):
    """Seconds of the first step, and after how many steps it has paid off, as cells of a table.

    Args:
        seconds: of the first step, which compiles.
        eager: milliseconds of a later step without torch.compile.
        compiled: milliseconds of a later step with it.
    """
    if compiled >= eager:
        return f"{seconds:.0f}", "never"
    return f"{seconds:.0f}", f"{seconds * 1000 / (eager - compiled):.0f} steps"


def compare_share(share, target):
    """A time as a share of TSN's, the target, and whether it is within it, as cells of a table."""
    if target is None:
        return f"x {share:.2f}", "", ""
    verdict = "ok" if share <= target else "above"
    return f"x {share:.2f}", f"<= {target:.2f}", verdict


def shift(args):
    """Print the time of the temporal shift alone, forward and backward, in a ResNet-50."""
    layouts = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
    cases = {}
    for layout, memory_format in layouts.items():
        frames = []
        for channels, side in SHIFTED:
            shape = (args.batch * args.segments, channels, side, side)
            x = torch.randn(shape, device=args.device).contiguous(memory_format=memory_format)
            frames.append(x.requires_grad_())
        cases[layout, "three slices"] = shift_step(frames, three_slices, args.segments)
        cases[layout, "ours"] = shift_step(frames, our_shift, args.segments)
    times = interleave(cases, args.rounds, args.device)
    target = targets.SHIFT if args.device == "cpu" else None
    rows = []
    for layout in layouts:
        original, ours = times[layout, "three slices"], times[layout, "ours"]
        cells = compare(original, ours, target)
        rows.append((layout, f"{original:.1f}", f"{ours:.1f}", *cells))
    print()
    title = "temporal shift, forward and backward"
    table((title, "three slices ms", "ours ms", "ratio", "target", ""), rows)


def our_shift(x, num_segments):
    """The shift of ops/temporal, as a function."""
    return TemporalShift(x.shape[1], num_segments)(x)


def shift_step(frames, function, num_segments):
    """A function that shifts feature maps forward and backward."""

    def step(_):
        for x in frames:
            function(x, num_segments).backward(x.detach())

    return step


def networks(module, args):
    """The original and ours in every way, with the same weights.

    Yields:
        ``(name, network, clip, amp)``. The original is given the normalized float32 clip that its
        data loader makes, ours the uint8 clip that ours makes.
    """
    torch.manual_seed(0)
    frames_per_segment = 5 if module == "tdn" else 1
    shape = (args.batch, args.segments, frames_per_segment * 3, args.size, args.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(args.device)
    original = baselines_model.original(module, args.arch, 400, args.segments, dropout=0)
    original.to(args.device)
    state = original.state_dict()
    normalize = load_model(state, args.segments, quiet=True).to(args.device).preprocess
    clip = normalize(pixels.flatten(0, 1)).view(args.batch, -1, args.size, args.size)
    with torch.no_grad():
        original(clip)  # in training mode: running statistics other than those of a new network
    original.train(args.train)
    yield "original", original, clip, "none"
    for name, way in WAYS.items():
        if (way.folded and args.train) or (way.compiled and not args.compile):
            continue
        network = load_model(state, args.segments, quiet=True, dropout=0.0).to(args.device)
        if way.folded:
            fuse_batch_norm(network)
        if way.channels_last:
            network.to_channels_last()
        network.train(args.train)
        if way.compiled:
            network = CompiledNetwork(network, args.batch)
        yield name, network, pixels, way.amp


def inference(network, clip, amp):
    """A function that scores a clip and returns the logits."""

    def step(_):
        with torch.inference_mode(), autocast(clip.device, amp):
            return network(clip)

    return step


def train_step(network, clip, amp):
    """A function that runs a clip forward and its loss backward and returns the logits."""
    labels = torch.arange(clip.shape[0], device=clip.device)

    def step(_):
        network.zero_grad(set_to_none=True)
        with autocast(clip.device, amp):
            logits = network(clip)
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        return logits.detach()

    return step


def bytes_for_backward(network, step):
    """Bytes that a training step keeps for the backward pass, without parameters and buffers."""
    own = {value.untyped_storage().data_ptr() for value in network.state_dict().values()}
    kept = {}

    def pack(value):
        # Holding the storage holds its address: another one could get it otherwise.
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        step(0)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def flops(_):
    """Print parameters and multiply-adds of convolutions and linear layers, counted by torch."""
    rows = []
    for (module, segments), (paper, paper_params) in targets.PAPERS.items():
        with torch.device("meta"):
            ours = TSN(400, segments, module=module)
            original = baselines_model.original(module, num_segments=segments)
            clip = torch.empty(1, segments * ours.frame_channels, 224, 224)
        both = (ours, original)
        counts = [f"{gmacs(network.eval(), clip):.2f}" for network in both]
        params = [f"{millions_of_parameters(network):.2f}" for network in both]
        name = f"{module} resnet50, {segments} frames"
        rows.append((name, *counts, paper, *params, paper_params))
    print(
        "One view of 224x224, 400 classes. GMACs: 1e9 multiply-adds of convolutions, linear\n"
        "layers and the temporal convolution. (fvcore also counts BatchNorm and pooling: 32.88\n"
        "for TSN and 35.90 for TDN at 8 frames.) The original TDN has more parameters: a bias of\n"
        "every conv before a BatchNorm, which cancels it, and an unused second first conv\n"
        "(conv1_temp, 9472).\n"
    )
    table(("", "GMACs ours", "original", "paper", "Mparams ours", "original", "paper"), rows)


def millions_of_parameters(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def gmacs(network, clip):
    """Billions of multiply-adds of a forward pass."""
    shifted = []
    for layer in network.modules():
        # No convolution to torch's counter: it runs as sums of slices.
        if isinstance(layer, TemporalConv):
            layer.register_forward_hook(lambda layer, _, out: shifted.append(3 * out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clip)
    return (counter.get_total_flops() / 2 + sum(shifted)) / 1e9
