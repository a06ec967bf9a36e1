"""Contradictory checkpoints: a small one makes neither torch nor a model use 64 MiB."""

import io
import pickle
import struct
import zipfile
from functools import cache

import pytest
import torch
from helpers.hostile import HUGE, PLAIN, fuzz, takes_little

from ops.backbones import BACKBONES
from ops.checkpoints import export_state_dict, infer
from ops.checkpoints.identify import read_weights
from ops.checkpoints.torch_file import read_checkpoint
from ops.models import TSN
from ops.utils.errors import UserError

pytestmark = pytest.mark.slow


def integer(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def storage(numel, key=b"0", view=b"", kind=b"Float"):
    return (
        b"("
        + text(b"storage")
        + b"ctorch\n"
        + kind
        + b"Storage\n"
        + text(key)
        + text(b"cpu")
        + integer(numel)
        + view
        + b"tQ"
    )


def tensor(numel=3, size=3, stride=1, offset=0, **options):
    """A tensor of one dimension in opcodes; there are three numbers for it."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage(numel, **options)
        + integer(offset)
        + integer(size)
        + b"\x85"
        + integer(stride)
        + b"\x85\x89ccollections\nOrderedDict\n)RtR"
    )


def called(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(".encode() + b"".join(arguments) + b"tR"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def of(content):
    """A pickle of {"a": content}, protocol 2."""
    return b"\x80\x02}X\1\0\0\0a" + content + b"s."


def zipped(pickled, method=0, data=bytes(12), **others):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, member in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            "data/0": data,
            **others,
        }.items():
            archive.writestr(f"x/{name}", member)
    return file.getvalue()


def legacy(pickled):
    start = [
        pickle.dumps(value, 2)
        for value in (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True})
    ]
    return b"".join((*start, pickled, pickle.dumps(["0"], 2), struct.pack("<q", 3), bytes(12)))


def test_the_made_up_checkpoints_are_ones(tmp_path):
    """Or what follows would be refused for another reason."""
    for data in (zipped(of(tensor())), legacy(of(tensor(view=b"N")))):
        (tmp_path / "m.pth").write_bytes(data)
        assert read_checkpoint(tmp_path / "m.pth")["a"].tolist() == [0, 0, 0]


ENCODED = text(b"a" * 1000)
for _ in range(20):
    ENCODED = called("_codecs.encode", ENCODED, text(b"hex_codec"))
PICKLES = {
    "storage": tensor(HUGE),
    "tensor outside": tensor(3, HUGE),
    "tensor spread": tensor(3, HUGE, 0),
    "offset": tensor(offset=HUGE),
    "stride": tensor(stride=HUGE),
    "negative": tensor(-1),
    "negative size": tensor(size=-HUGE),
    "empty and wide": called(
        "torch._utils._rebuild_tensor_v2",
        storage(3),
        integer(0),
        b"(K\0" + integer(HUGE) + b"t",
        b"(K\1K\1t\x89",
        b"ccollections\nOrderedDict\n)R",
    ),
    "untyped": tensor(HUGE, kind=b"Untyped"),
    "bytearray": called("__builtin__.bytearray", integer(HUGE)),
    "a storage itself": called("torch.storage.UntypedStorage", integer(HUGE)),
    "a tensor itself": called("torch.FloatTensor", integer(HUGE)),
    "Tensor": b"ctorch\nTensor\n" + integer(HUGE) + b"\x85\x81",
    "parameter": b"ctorch.nn.parameter\nParameter\n" + integer(HUGE) + b"\x85\x81",
    "meta": called(
        "torch._utils._rebuild_meta_tensor_no_storage",
        b"ctorch\nfloat32\n" + integer(HUGE) + b"\x85K\1\x85\x89",
    ),
    "codec": ENCODED,
    "dicts": b"]("
    + b"](K\1K\2ee" * 2000
    + b"eq\1("
    + b"ccollections\nOrderedDict\nh\1\x85R" * 1500
    + b"t\x86",
    "deep key": b"}()" + b"\x85" * 90_000 + b"Ns",
    "deep": b")" + b"\x85" * 90_000,
    "text": b"X\xff\xff\xff\xffab",
    "names": b"("
    + b"".join(b"ca\nb%d\n" % number for number in range(9000))
    + b"(t"
    + b"h\1)R" * 2000
    + b"t",
    "two lengths": b"(" + tensor() + tensor(numel=3, kind=b"Double") + b"t",
    "part": tensor(view=b"(X\1\0\0\0vK\0" + integer(HUGE) + b"t"),
}


def uses_little(data, path, refused=""):
    """torch may reserve memory for a storage before it finds that the file is too short."""
    takes_little(data, path, read_checkpoint, refused, peak="VmHWM")


@pytest.mark.parametrize("name", PICKLES)
def test_contradictory_checkpoints(tmp_path, name):
    pickled = of(PICKLES[name])
    for data in (
        zipped(pickled),
        legacy(pickled.replace(b"tQ", b"NtQ")),
        legacy(pickled),
        zipped(pickled, 8),
    ):
        uses_little(data, tmp_path / "m.pth")


def central(data, entry, at, change):
    """A zip file with a changed directory."""
    at += data.rindex(b"PK\1\2") if entry == "last" else data.index(b"PK\1\2")
    return data[:at] + change + data[at + len(change) :]


ZIPS = {
    "bomb": lambda: zipped(of(tensor(2**28)), zipfile.ZIP_DEFLATED, bytes(2**25)),
    "one size": lambda: central(zipped(of(tensor())), "last", 24, struct.pack("<I", 2**31 - 1)),
    "both sizes": lambda: central(
        zipped(of(tensor())), "last", 20, struct.pack("<2I", 2**31 - 1, 2**31 - 1)
    ),
    "64 bits": lambda: central(zipped(of(tensor())), "last", 20, b"\xff" * 8),
    "pickle": lambda: central(
        zipped(of(tensor())), "first", 20, struct.pack("<2I", 2**31 - 1, 2**31 - 1)
    ),
    "end": lambda: zipped(of(tensor()))[:-10] + struct.pack("<2IH", 2**31, 2**31, 0),
    "number": lambda: zipped(of(tensor()))[:-12] + b"\xff\xff" + zipped(of(tensor()))[-10:],
    "torchscript": lambda: zipped(of(tensor()), **{"constants.pkl": b"\x80\x02)."}),
    "comment": lambda: zipped(of(tensor()))[:-2] + b"\x04\x00abcd",
}


@pytest.mark.parametrize("name", ZIPS)
def test_contradictory_zip_files(tmp_path, name):
    uses_little(ZIPS[name](), tmp_path / "m.pth")


def test_overlapping_members(tmp_path):
    """Nine entries of the directory that refer to the same 60 kB."""
    tensors = b"".join(tensor(15_000, 15_000, key=b"%d" % i) for i in range(9))
    data = zipped(of(b"](" + tensors + b"e"), data=bytes(60_000))
    at = data.index(b"PK\1\2")
    entry = data[data.rindex(b"PK\1\2") : len(data) - 22]
    more = b"".join(entry.replace(b"data/0", b"data/%d" % i) for i in range(1, 9))
    end = bytearray(data[-22:])
    end[8:16] = struct.pack("<2HI", 12, 12, len(data) - 22 - at + len(more))
    uses_little(data[:-22] + more + bytes(end), tmp_path / "m.pth", "larger than the file")


def test_a_tar_file(tmp_path):
    """What torch wrote before 2017. Its header could announce an entry of any size."""
    start = legacy(of(tensor(view=b"N")))[:40]
    header = bytearray(start.ljust(512, b"\0"))
    header[124:136] = b"77777777777\0"
    header[156:157] = b"x"
    header[257:263] = b"ustar\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    uses_little(bytes(header), tmp_path / "m.pth", "not a PyTorch checkpoint")


def test_what_a_checkpoint_says_of_itself(tmp_path):
    """The spec must not build a larger model than the weights, nor start a download."""
    spec = {"num_class": 3, "num_segments": 8, "arch": "resnet18", "module": "tsn"}
    content = {
        "model": spec,
        "state_dict": {"head.weight": torch.zeros(3, 512), "backbone.conv1.weight": torch.zeros(1)},
    }
    assert read_weights(content).spec == spec
    for key, value in (
        ("num_class", 10**9),
        ("num_segments", 10**6),
        ("pretrain", "imagenet"),
        ("module", 3),
        ("arch", None),
        ("dropout", []),
    ):
        with pytest.raises(
            UserError, match=r"^state dict: (does not describe|its number of classes)"
        ):
            read_weights({**content, "model": {**spec, key: value}})
    for change in (
        {"class_names": ["a"]},
        {"class_names": "abc"},
        {"class_names": ["a", "b", "c\n"]},
    ):
        with pytest.raises(UserError, match="class name"):
            read_weights({**content, **change})


def copied(tree):
    return {key: copied(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def infer_resnet(shapes):
    for arch, entry in BACKBONES.items():
        if entry.matches and entry.matches(shapes):
            return arch
    return None


def test_contents_of_checkpoints(tmp_path, monkeypatch):
    """Content of the wrong types, names and shapes, after torch has read it."""
    monkeypatch.setattr(
        infer, "first_conv", cache(infer.first_conv)
    )  # both build a network each time
    monkeypatch.setattr(infer, "infer_arch", infer_resnet)
    contents = []
    with torch.device("meta"):
        for module, layout in (
            ("tsn", None),
            ("tam", None),
            ("tdn", "tdn"),
            ("tsm", "tsm"),
            ("tam", "tam"),
        ):
            model = TSN(5, 4, arch="resnet18", module=module)
            some = {
                key: value
                for key, value in model.state_dict().items()
                if "layer" not in key or "layer1.0" in key
            }
            ours = {
                "model": model.spec,
                "state_dict": some,
                "class_names": list("abcde"),
                "recipe": {"dataset": "x"},
            }
            contents += (
                [{"state_dict": export_state_dict(model, layout)}] if layout else [ours] * 15
            )
        tensors = [
            torch.ones(shape)
            for shape in (
                (),
                (0,),
                (3,),
                (1, 0, 3),
                (2, 3, 1, 1),
                (64, 3, 7, 7),
                (5, 512),
                (1,) * 5,
            )
        ]

    def make(draw):
        content = copied(draw.choice(contents))
        for _ in range(draw.randint(1, 3)):
            part = draw.choice(
                [content, *(one for one in content.values() if isinstance(one, dict) and one)]
            )
            if not part:
                break
            key = draw.choice(list(part))
            if draw.random() < 0.7:
                part[key] = draw.choice(PLAIN + tensors)
            elif draw.random() < 0.7:
                part[draw.choice(("x", 5, None, "module.a", "head.weight", "num_class"))] = (
                    part.pop(key)
                )
            else:
                del part[key]
        return content

    def read(content):
        file = read_weights(content)
        assert (
            type(file.spec["num_class"]) is int
            and isinstance(file.spec["arch"], str)
            and file.state
        )

    fuzz("contents", make, read, tmp_path, share=0.1, kinds=8)
