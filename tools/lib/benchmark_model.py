"""``benchmark.py model`` and ``benchmark.py flops``: the original's networks and ours, with the same weights."""

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lib import baselines_model
from lib.baselines_temporal import three_slices
from lib.measure import interleave, judged, machine, table
from ops.checkpoints import load_model
from ops.models import TSN, fuse_batch_norm
from ops.temporal.difference import TemporalConv
from ops.temporal.shift import TemporalShift
from ops.utils.amp import autocast
from ops.utils.errors import UserError

SAME = 1e-5  # relative difference of float32 logits up to which two networks count as the same function

# How ours is run: name -> (channels-last, BatchNorm folded, torch.compile, precision)
WAYS = {
    "NCHW fp32": (False, False, False, "none"),
    "channels-last fp32": (True, False, False, "none"),
    "channels-last bf16": (True, False, False, "bf16"),
    "channels-last fp32, folded BN": (True, True, False, "none"),
    "channels-last bf16, folded BN": (True, True, False, "bf16"),
    "channels-last bf16, compiled": (True, False, True, "bf16"),
    "channels-last bf16, folded BN, compiled": (True, True, True, "bf16"),
}
# (module, training) -> the least ratio to the original's NCHW fp32 on a CPU, for ResNet-50, 8 segments, 224 x 224
BARS = {
    ("tsm", True): {"channels-last bf16": 2.1},
    ("tdn", False): {"channels-last fp32": 1.25, "channels-last bf16": 2.1},
    ("tdn", True): {"channels-last bf16": 1.6},
}

# (module, segments) -> GMACs and millions of parameters in the papers (TSM, arXiv 1811.08383; TDN, arXiv 2012.10071)
PAPERS = {
    ("tsn", 8): ("33", "24.3"),
    ("tsn", 16): ("65", "24.3"),
    ("tsm", 8): ("33", "24.3"),
    ("tsm", 16): ("65", "24.3"),
    ("tdn", 8): ("36", ""),
    ("tdn", 16): ("72", ""),
}


SHIFT_BAR = (
    5.0  # the least ratio of the three-slice shift's time to ours, forward and backward on a CPU
)
# The most that a training step may take of the time of TSN's in the same layout; for the layouts of TSN_LAYOUTS
TSN_BARS = {"tsm": 1.08, "tam": 1.3, "tin": 1.3}
TSN_LAYOUTS = ("NCHW fp32", "channels-last fp32")
SHIFTED = (
    (64, 56),
    (256, 56),
    (512, 28),
    (1024, 14),
    (2048, 7),
)  # channels and side where a ResNet-50 shifts at 224 x 224


def model(args):
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {args.device}: torch finds no GPU here; use --device cpu")
    print(machine("torch", "torchvision"))
    print(
        f"{'training step' if args.train else 'inference'} of {args.batch} clip(s) of {args.segments} segments at "
        f"{args.size}x{args.size}, {args.arch}, {args.device}, {args.rounds} rounds; original: NCHW fp32"
    )
    for module in args.modules:
        standard = (args.arch, args.segments, args.size, torch.device(args.device).type) == (
            "resnet50",
            8,
            224,
            "cpu",
        )
        bars = BARS.get((module, args.train), {}) if standard else {}
        steps, logits, kept = {}, {}, {}
        for name, network, clip, amp in networks(module, args):
            steps[name] = (
                train_step(network, clip, amp) if args.train else inference(network, clip, amp)
            )
            kept[name] = (
                f"{bytes_for_backward(network, steps[name]) / 2**20:.0f}" if args.train else ""
            )
            logits[name] = steps[name](0).float()
        expected = logits["original"]
        scale = expected.abs().max()
        differences = {
            name: ((value - expected).abs().max() / scale).item() for name, value in logits.items()
        }
        wrong = [
            name
            for name, value in differences.items()
            if value > SAME and "bf16" not in name and not args.train
        ]
        if wrong:
            raise UserError(
                f"{module}, {wrong[0]}: logits differ from the original's by {differences[wrong[0]]:.1e}"
            )
        plain = {}
        if module in TSN_BARS and args.train:
            plain = {
                ("tsn", name): train_step(network, clip, amp)
                for name, network, clip, amp in networks("tsn", args)
            }
        times = interleave({**steps, **plain}, args.rounds, args.device)
        print()
        table(
            (module, "ms", "ratio", "bar", "", "logits differ", "MB for backward", "TSN's time"),
            (
                (
                    name,
                    f"{times[name]:.1f}",
                    *judged(times["original"] / times[name], bars.get(name)),
                    f"{differences[name]:.0e}",
                    kept[name],
                    of_tsn(
                        times[name] / times["tsn", name],
                        TSN_BARS[module] * (standard and name in TSN_LAYOUTS),
                    )
                    if plain
                    else "",
                )
                for name in steps
            ),
        )
    if "tsm" in args.modules and args.train:
        shift(args)


def of_tsn(share, bar):
    """A time as a share of TSN's, and whether it is within the bar (0: there is none)."""
    return f"x {share:.2f}" + (
        f" (<= {bar:.2f} {'ok' if share <= bar else 'above'})" if bar else ""
    )


def shift(args):
    """The temporal shift alone, forward and backward, at the five shapes of a ResNet-50."""
    cases, bar = {}, SHIFT_BAR if torch.device(args.device).type == "cpu" else None
    for layout, memory_format in (
        ("NCHW", torch.contiguous_format),
        ("channels-last", torch.channels_last),
    ):
        frames = [
            torch.randn(args.batch * args.segments, channels, side, side, device=args.device)
            .contiguous(memory_format=memory_format)
            .requires_grad_()
            for channels, side in SHIFTED
        ]
        for name, run in (
            ("three slices", lambda x: three_slices(x, args.segments)),
            ("ours", lambda x: TemporalShift(x.shape[1], args.segments)(x)),
        ):
            cases[layout, name] = lambda _, frames=frames, run=run: [
                run(x).backward(x.detach()) for x in frames
            ]
    times = interleave(cases, args.rounds, args.device)
    print()
    table(
        ("temporal shift, forward and backward", "three slices ms", "ours ms", "ratio", "bar", ""),
        (
            (
                layout,
                f"{times[layout, 'three slices']:.1f}",
                f"{times[layout, 'ours']:.1f}",
                *judged(times[layout, "three slices"] / times[layout, "ours"], bar),
            )
            for layout in ("NCHW", "channels-last")
        ),
    )


def networks(module, args):
    """Yields ``(name, network, clip, amp)``: the original, then ours in every way, with the same weights.

    The original is given the normalised float32 clip that its loader makes, ours the uint8 clip that ours makes.
    """
    torch.manual_seed(0)
    L = 5 if module == "tdn" else 1
    pixels = torch.randint(
        0, 256, (args.batch, args.segments, L * 3, args.size, args.size), dtype=torch.uint8
    )
    pixels = pixels.to(args.device)
    original = baselines_model.original(module, args.arch, 400, args.segments, dropout=0).to(
        args.device
    )
    state = original.state_dict()
    normalise = load_model(state, args.segments, quiet=True).to(args.device).preprocess
    clip = normalise(pixels.flatten(0, 1)).view(args.batch, -1, args.size, args.size)
    with torch.no_grad():
        original(clip)  # in training mode: running statistics other than those of a new network
    original.train(args.train)
    yield "original", original, clip, "none"
    for name, (channels_last, fold, compiled, amp) in WAYS.items():
        if (fold and args.train) or (compiled and not args.compile):
            continue
        network = load_model(state, args.segments, quiet=True, dropout=0.0).to(args.device)
        if fold:
            fuse_batch_norm(network)
        if channels_last:
            network.to_channels_last()
        network.train(args.train)
        yield name, torch.compile(network) if compiled else network, pixels, amp


def inference(network, clip, amp):
    """A function that scores a clip and returns the logits."""

    def step(_):
        with torch.inference_mode(), autocast(clip.device, amp):
            return network(clip)

    return step


def train_step(network, clip, amp):
    """A function that runs a clip forward and its loss backward and returns the logits; no optimiser."""
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
    """Bytes of memory that a training step keeps from forward to backward, without parameters and buffers."""
    own = {value.untyped_storage().data_ptr() for value in network.state_dict().values()}
    kept = {}

    def pack(value):
        # Holding the storage holds its address: what autograd lets go of in the meantime could share it.
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        step(0)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def flops(_):
    """Multiply-adds of convolutions and linear layers, counted by torch, halved, on the meta device."""
    rows = []
    for (module, T), (paper, paper_params) in PAPERS.items():
        with torch.device("meta"):
            both = (TSN(400, T, module=module), baselines_model.original(module, num_segments=T))
            clip = torch.empty(1, T * both[0].frame_channels, 224, 224)
        counts = [f"{gmacs(network.eval(), clip):.2f}" for network in both]
        params = [f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}" for network in both]
        rows.append((f"{module} resnet50, {T} frames", *counts, paper, *params, paper_params))
    print(
        "One view of 224x224, 400 classes. GMACs: 1e9 multiply-adds of convolutions, linear layers and the temporal\n"
        "convolution. (fvcore also counts BatchNorm and pooling: 32.88 for TSN and 35.90 for TDN at 8 frames.)\n"
        "The original TDN has more parameters: a bias of every conv before a BatchNorm, which cancels it, and\n"
        "an unused second first conv (conv1_temp, 9472).\n"
    )
    table(("", "GMACs ours", "original", "paper", "Mparams ours", "original", "paper"), rows)


def gmacs(network, clip):
    """Billions of multiply-adds of a forward pass."""
    shifted = []
    for layer in network.modules():
        if isinstance(
            layer, TemporalConv
        ):  # no convolution to torch's counter: it runs as sums of slices
            layer.register_forward_hook(lambda layer, _, out: shifted.append(3 * out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clip)
    return (counter.get_total_flops() / 2 + sum(shifted)) / 1e9
