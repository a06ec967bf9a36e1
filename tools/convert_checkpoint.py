"""Convert weights between this project's checkpoints and the layouts of the published ones.

    python tools/convert_checkpoint.py TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth tsm.pth
    python tools/convert_checkpoint.py runs/mine/best.pth for_tsm.pth.tar --to tsm

IN is any file that --weights takes: of this project, TSN, TSM, TAM, TIN, TDN, MMAction2 or torchvision; it is loaded
strictly. OUT is a checkpoint of this project (--to ours), which explains itself, or what the other project's own loader
expects. What IN does not tell (T of a TSM file without its name, say) is assumed, and said so, unless a flag supplies it.
OUT is loaded again and compared, tensor by tensor, before it gets its name.
"""

import argparse
import contextlib
import os
import secrets
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.checkpoints import describe, export_state_dict, load_model, save_checkpoint
from ops.checkpoints.identify import read_weights
from ops.checkpoints.layouts import LAYOUTS, layout_name, to_ours
from ops.checkpoints.torch_file import find_weights, read_checkpoint, weight_file
from ops.cli.common_args import WEIGHTS_KEY_HELP, module_option_flags
from ops.cli.types import positive_int
from ops.data.class_names import read_class_names
from ops.temporal import MODULES, option_names
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write

# What torch.save writes is called; any other ending names a format that this tool does not write.
ENDINGS = (".pth", ".pt", ".pth.tar", ".pt.tar", ".ckpt")


def main() -> None:
    args = parser().parse_args()
    if args.class_names and args.to != "ours":
        raise UserError(
            f"--class_names: the {args.to} layout has no place for them; leave the flag out"
        )
    if os.path.isdir(args.out) or (os.path.exists(args.out) and not args.force):
        raise UserError(f"{args.out} exists; give another OUT, or --force to replace a file")
    check_ending(args.out)
    given = {
        name: getattr(args, name)
        for name in ("num_segments", "module", *option_names())
        if getattr(args, name) is not None
    }
    args.source = weight_file(args.source)
    file = read_weights(args.source, args.weights_key)
    model = load_model(file, quiet=True, **given)
    if args.class_names:
        model.class_names = read_class_names(args.class_names, model.num_class)
    content = read_checkpoint(args.source)
    tellers = {
        **dict.fromkeys(read_weights(content, args.weights_key).spec, "the file"),
        **dict.fromkeys(given, "a flag"),
    }
    print_recognised(args.source, file, model, tellers)
    if args.keys:
        print_keys(find_weights(content, args.source, args.weights_key).state, file.layout, model)
    recipe = (file.layout == "ours" and content.get("recipe")) or (
        {"dataset": file.dataset} if file.dataset else {}
    )
    untold = write(
        args.out,
        model,
        args.to,
        recipe=recipe,
        converted_from=origin(args.source, file.layout, content),
    )
    print(
        f"written     {args.out}, layout: {layout_name(args.to)}; the same {len(model.state_dict())} tensors when loaded again"
    )
    if untold:
        print(f"not told    by that file: {', '.join(untold)}; give them when you use it")


def check_ending(out: Path) -> None:
    """Raise UserError for a file name whose ending promises another format than torch's."""
    if out.name.lower().endswith(ENDINGS):
        return
    raise UserError(
        f"{out}: only PyTorch checkpoints are written, whose names end in {', '.join(ENDINGS)}; give another OUT"
    )


def origin(source: Path, layout: str, content) -> dict:
    """What a converted file says of its origin: the first file, where the source is a converted one itself."""
    first = (
        content.get("converted_from") if layout == "ours" and isinstance(content, dict) else None
    )
    if isinstance(first, dict) and isinstance(first.get("layout"), str):
        return first
    return {"file": source.name, "layout": layout}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="weights to read; the name counts where the weights do not tell",
    )
    top.add_argument("out", type=Path, metavar="OUT", help="file to write")
    top.add_argument(
        "--to",
        choices=[name for name, row in LAYOUTS.items() if row.written],
        default="ours",
        help="layout of OUT (default: ours)",
    )
    top.add_argument("--keys", action="store_true", help="also print what became of every key")
    top.add_argument("--force", action="store_true", help="replace OUT if it exists")
    top.add_argument("--weights_key", metavar="NAME", help=WEIGHTS_KEY_HELP)
    group = top.add_argument_group("what IN does not tell")
    group.add_argument(
        "--class_names", metavar="FILE", help="class names, one a line, in label order"
    )
    group.add_argument("--num_segments", type=positive_int, metavar="T", help="segments of a clip")
    group.add_argument(
        "--module", choices=tuple(MODULES), help="temporal module that the weights show no trace of"
    )
    for flag, settings in module_option_flags():
        group.add_argument(flag, **settings)
    return top


def print_recognised(source: Path, file, model, tellers: dict[str, str]) -> None:
    """What was found, and who told it (tellers: argument of the model -> who); else it was the name, if in ``file.spec``."""
    assumed = [
        name
        for name in ("module", "num_segments", *MODULES[model.spec["module"]].options)
        if name not in tellers and name not in file.spec
    ]
    source_of_facts = "the record" if file.published else "the file's name"
    teller = tellers.get(
        "num_segments", "assumed" if "num_segments" in assumed else source_of_facts
    )
    print(
        f"read        {source}, layout: {layout_name(file.layout)}{f', data set {file.dataset}' if file.dataset else ''}"
    )
    if file.note:
        print(f"weights     {file.note.removeprefix('weights ')}")
    print(f"model       {describe(model.spec)}")
    print(f"T           {model.num_segments} ({teller})")
    print(
        f"classes     {model.num_class} ({'with their names' if model.class_names else 'names unknown'})"
    )
    if assumed:
        print(
            f"assumed     {', '.join(f'{name} {model.spec[name]}' for name in assumed)}: the file does not tell, flags can"
        )


def print_keys(state: dict[str, torch.Tensor], layout: str, model) -> None:
    """Two columns: the keys of a stripped state dict with their shapes, and what became of them."""
    own, fates = model.state_dict(), follow_keys(list(state), layout)
    rows = [(key, state[key], fates[key]) for key in state]
    rows += [("(nothing)", own[key], f"{key}, added") for key in own if key not in fates.values()]
    rows = [(key, "x".join(map(str, value.shape)) or "scalar", fate) for key, value, fate in rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, shape, fate in rows:
        print(f"{key:<{widths[0]}}  {shape:<{widths[1]}}  -> {fate}")


def follow_keys(keys: list[str], layout: str) -> dict[str, str]:
    """Key of theirs -> key of ours, or what else became of it.

    The translation is linear: each entry is made another unit vector, and what comes out tells what went in.
    """
    fates = dict.fromkeys(keys, "dropped: no forward pass reads it")
    for ours, value in to_ours(dict(zip(keys, torch.eye(len(keys)), strict=True)), layout).items():
        for index in value.nonzero().flatten().tolist():
            fates[keys[index]] = ours if value[index] > 0 else f"folded into {ours}"
    return fates


def write(out: Path, model, layout: str, **facts) -> list[str]:
    """Write a model in a layout to ``out``, which gets its name once the file has been loaded and holds the same tensors.

    facts: what else a checkpoint of ours says. Returns what the written file does not tell, as ``name value``. Raises
    UserError if the layout cannot hold the model, if ``out`` cannot be written, or if its name contradicts the weights.
    """
    target = os.path.realpath(out)  # a link stays a link
    trial = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        if layout == "ours":
            save_checkpoint(trial, model, class_names=model.class_names, **facts)
        else:
            state = export_state_dict(model, layout)
            # The loaders of those who save DataParallel's "module." want a checkpoint, the others a bare state dict.
            with atomic_write(trial) as file:
                torch.save({"state_dict": state} if LAYOUTS[layout].prefix else state, file)
        untold = compare(trial, model)
        os.replace(trial, target)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror or error}); give another OUT"
        ) from None
    except UserError as error:
        raise UserError(str(error).replace(trial, str(out))) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)
    return untold


def compare(path: str, model) -> list[str]:
    """What a file does not tell about a model, as ``name value``. Raises UserError if it does not hold the same weights."""
    again = load_model(path, quiet=True)
    expected, found = model.state_dict(), again.state_dict()
    wrong = [
        key
        for key in expected.keys() | found.keys()
        if key not in expected
        or key not in found
        or expected[key].dtype != found[key].dtype
        or not torch.allclose(expected[key], found[key], 0, 0, equal_nan=True)
    ]
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} tensors are not the same when loaded again ({min(wrong)}); nothing was written"
        )
    told = read_weights(path).spec
    return [
        f"{name} {value}"
        for name, value in model.spec.items()
        if name in ("module", "num_segments", *option_names()) and told.get(name) != value
    ]


if __name__ == "__main__":
    run_cli(main)
