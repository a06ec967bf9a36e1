"""Thousands of damaged lists, datasets, images and shard sets are read or refused."""

import io
import json
import zlib
from itertools import cycle

import numpy as np
import pytest
from helpers.hostile import NUMBERS, TEXTS, as_json, damaged, fuzz, reading, write_new
from PIL import Image

from ops.data import datasets
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.lists import read_list
from ops.data.readers.frame_folder import count_frames
from ops.data.readers.images import decode_image
from ops.data.readers.shard_paths import StoredVideo
from ops.data.readers.shards import INDEX, ShardSet, padded, shard_name
from ops.data.readers.templates import file_namer

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path):
    """A file to write the cases to; its folder is all that a parser may touch."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "case"


# Lists and datasets.

LIST = ["videos/a b.mp4 3", "folder 12 0", "a\tb c\t1", "é\t40\t2", "v 1,2", "", "take 12\t1"]


def test_lists(place):
    def make(draw):
        lines = [draw.choice(LIST) for _ in range(draw.randint(1, 4))]
        for _ in range(draw.randint(1, 3)):
            row = draw.randrange(len(lines))
            columns = lines[row].split(draw.choice(" \t"))
            at = draw.randrange(len(columns))
            columns[at] = draw.choice(
                (
                    str(draw.choice(NUMBERS)),
                    draw.choice(TEXTS),
                    columns[at] * 2,
                    "1,1,1,1",
                    " " * 50,
                )
            )
            lines[row] = draw.choice((" ", "\t", "\t\t")).join(columns)
        data = draw.choice(("\n", "\r\n", "\r")).join(lines).encode(errors="surrogatepass")
        return damaged(draw, data) if draw.random() < 0.3 else data

    several = cycle((False, True))

    def read(path):
        for record in read_list(path, root_path="root", num_class=20, multi_label=next(several)):
            assert record.path in (f"root/{record.id}", record.id) and record.id
            assert record.num_frames is None or record.num_frames > 0

    fuzz("lists", make, reading(place, read), place.parent, share=0.1, kinds=8)


def test_class_names(place):
    texts = ["a b\nc d\ne f\n", "1 a\n2 b\n3 c\n", "0 a\n2 b\n1 c\n"]
    trees = [["a", "left hand", "right hand"], {"a": 0, "b": "1", "c": 2}]

    def make(draw):
        if draw.random() < 0.5:
            return "case.json", as_json(draw, draw.choice(trees))
        return draw.choice(("case.json", "case.txt")), damaged(draw, draw.choice(texts).encode())

    def read(case):
        path = place.with_name(case[0])
        write_new(path, case[1])
        names = read_class_names(path)
        assert (
            all(isinstance(name, str) and name == name.strip() for name in names)
            or case[0] == "case.json"
        )
        flip_label_map(names)
        read_class_names(path, 3)

    for name in ("case.json", "case.txt"):
        place.with_name(name).touch()
    fuzz("class names", make, read, place.parent, share=0.02, kinds=8)


TOML = [
    "num_class = 4",
    'class_names = "classes.txt"',
    'root_path = "$HOME/mine"',
    'train_list = "train"',
    'val_list = "v"',
    'image_tmpl = "img_{:05d}.jpg"',
    'test_sampling = "center"',
    'flip = "pairs"',
    "flip_pairs = [[0, 1]]",
    "multi_label = false",
]
FLOW = ["[flow]", 'root_path = "flow"', 'train_list = "t.txt"', 'image_tmpl = "flow_{}_{:05d}.jpg"']


def test_data_sets(place):
    place.with_name("classes.txt").write_text("a\nb\nc\nd\n")
    values = [
        json.dumps(value)
        for value in (*NUMBERS, *TEXTS, 0.5, True, [], [[0, 1], [1, 2]], [[0, 2**70]], [["a", 1]])
    ]
    values += [
        "1979-05-27",
        "inf",
        "{a = 1}",
        "[" * 3000,
        "''",
        "0x" + "f" * 5000,
        '"names"',
        '"none"',
        '"unknown"',
    ]

    def make(draw):
        lines = draw.sample(TOML, draw.randint(1, len(TOML))) + (
            FLOW if draw.random() < 0.5 else []
        )
        for _ in range(draw.randint(1, 2)):
            at = draw.randrange(len(lines))
            key, _, value = lines[at].partition(" = ")
            kind = draw.randrange(6)
            if kind <= 2:
                lines[at] = f"{key} = {draw.choice(values)}"
            elif kind == 3:
                key = draw.choice(
                    (key + ".a" * draw.choice((1, 1000)), key.upper(), "other", "[[flow]]")
                )
                lines[at] = f"{key} = {value or 1}"
            elif kind == 4:
                lines.insert(at, draw.choice(lines))
        data = "\n".join(lines).encode(errors="surrogatepass")
        return damaged(draw, data, 2) if draw.random() < 0.3 else data

    def read(path):
        for modality in ("RGB", "Flow"):
            dataset = datasets.resolve(str(path), modality)
            assert dataset.num_class > 0 and "\0" not in dataset.root_path
            datasets.load_class_names(dataset)
            datasets.flip_map(dataset, None)

    fuzz(
        "datasets",
        make,
        reading(place.with_name("case.toml"), read),
        place.parent,
        share=0.02,
        kinds=15,
    )


def test_templates(place):
    forms = [
        "img_{:05d}.jpg",
        "{zero:05d}.jpg",
        "flow_{}_{:05d}.jpg",
        "{:06d}-{}_{:05d}.jpg",
        "{0}/{1:d}",
        "{:{}}",
    ]
    pieces = [
        "{",
        "}",
        "{{",
        "}}",
        "{}",
        ":",
        "!r",
        "0",
        "99999999999",
        ".real",
        "[0]",
        "__class__",
        "x",
        "/",
        "..",
        "\0",
        "e",
        ",",
        "_",
        "zero",
        "d",
        "s",
        "%",
        ">9",
        "\n",
    ]

    def make(draw):
        form = list(draw.choice(forms))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(form) + 1)
            form[at : at + draw.randrange(3)] = [draw.choice(pieces)]
        return "".join(form), draw.choice(("RGB", "Flow", "RGBDiff"))

    def read(case):
        names = file_namer(case[0], "000123" if len(case[0]) % 2 else "9" * 6000, case[1])
        assert all(
            isinstance(name, str) and len(name) < 5000
            for number in (1, 2, 10**6)
            for name in names(number)
        )

    fuzz("templates", make, read, place.parent, share=0.05, kinds=3)


# Pictures and shards.


def test_names_of_frames(place):
    def make(draw):
        names = [f"img_{number:05d}.jpg" for number in range(1, draw.randint(2, 6))]
        for _ in range(draw.randint(0, 3)):
            names[draw.randrange(len(names))] = draw.choice(
                (
                    draw.choice(TEXTS),
                    f"img_{draw.choice(NUMBERS):05d}.jpg",
                    f"img_{'9' * 5000}.jpg",
                    "img_00001.jpg",
                    "img_00009.jpg",
                )
            )
        return set(names), draw.choice(("img_{:05d}.jpg", "img_{zero:05d}.jpg", "{}"))

    def read(case):
        assert 0 <= count_frames("folder", case[1], names=case[0]) <= len(case[0])

    fuzz("names of frames", make, read, place.parent, share=0.2, kinds=3)


def pictures():
    rng, made = np.random.default_rng(0), []
    picture = Image.fromarray(rng.integers(0, 255, (8, 12, 3), np.uint8))
    for kind, modes in {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "P", "1"),
        "BMP": ("RGB",),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("P",),
        "TIFF": ("RGB",),
        "PPM": ("RGB",),
    }.items():
        for mode in modes:
            file = io.BytesIO()
            picture.convert(mode).save(
                file, kind, **({"lossless": mode == "RGBA"} if kind == "WEBP" else {})
            )
            made.append(file.getvalue())
    return made


def test_images(place):
    whole = pictures()

    def make(draw):
        return damaged(draw, draw.choice(whole)), draw.choice(("RGB", "L"))

    def read(case):
        picture = decode_image("folder", "name", case[1], case[0])
        assert picture.dtype == np.uint8 and picture.ndim == (3 if case[1] == "RGB" else 2)

    fuzz("pictures", make, read, place.parent, share=0.05, kinds=8)


DATA = bytes(range(256)) * 20


def shard_set(folder, rows, size=5120):
    folder.mkdir(exist_ok=True)
    header = json.dumps({"version": 1, "shards": [[size, ""]]}).encode()
    write_new(folder / INDEX, header + b"\n" + rows)
    write_new(folder / shard_name(0), DATA)


def test_shard_sets(place):
    folder = place.parent / "k.shards"
    lines = [
        f"v{i}\tvideo\t0\t{i * 100}\t50\t{zlib.crc32(DATA[i * 100 :][:50]):08x}".encode()
        for i in range(4)
    ]
    shard_set(folder, b"\n".join(lines) + b"\n")
    whole = (folder / INDEX).read_bytes()

    def make(draw):
        if draw.random() < 0.3:
            return damaged(draw, whole, 2)
        rows = [line.split(b"\t") for line in lines]
        for _ in range(draw.randint(0, 2)):
            row = draw.choice(rows)
            row[draw.randrange(6)] = draw.choice(
                (
                    str(draw.choice(NUMBERS)).encode(),
                    b"folder",
                    b"00000000",
                    b"5000",
                    b"120",
                    draw.choice(TEXTS).encode(errors="replace"),
                )
            )
        header = {"version": 1, "shards": [[len(DATA), "x"]]}
        first = as_json(draw, header) if draw.random() < 0.3 else json.dumps(header).encode()
        return first + b"\n" + b"".join(b"\t".join(row) + b"\n" for row in rows)

    def read(data):
        write_new(folder / INDEX, data)
        shards = ShardSet(str(folder))
        for name in ("v0", "v2", "../x"):
            if (entry := shards.find(name)) is not None:
                stored = StoredVideo(name, shards, entry)
                content = b"" if entry.is_folder else stored.opener()().read()
                assert (
                    entry.is_folder
                    or content == DATA[entry.location.offset :][: entry.location.size]
                )

    fuzz("shard sets", make, read, place.parent, share=0.1, kinds=6)


def test_tables_of_folders(place):
    folder = place.parent / "k.shards"
    files = [
        [f"img_{i:05d}.jpg", i * 100, 50, zlib.crc32(DATA[i * 100 :][:50])] for i in range(1, 4)
    ]

    def make(draw):
        if draw.random() < 0.5:
            return as_json(draw, {"files": files})
        rows = [list(row) for row in files]
        for _ in range(draw.randint(1, 3)):
            draw.choice(rows)[draw.randrange(1, 4)] = draw.choice((*NUMBERS, 150, files[0][3]))
        return json.dumps({"files": rows}).encode()

    def read(data):
        shard_set(folder, b"f\tfolder\t0\t0\t%d\t%08x\n" % (len(data), zlib.crc32(data)), 10**6)
        content = data + bytes(padded(len(data)) - len(data)) + DATA
        write_new(folder / shard_name(0), content)
        stored = StoredVideo("f", ShardSet(str(folder)), ShardSet(str(folder)).find("f"))
        number = count_frames("f", "img_{:05d}.jpg", names=stored.names())
        stored.read([f"img_{i:05d}.jpg" for i in range(1, number + 1)])
        stored.read(sorted(stored.names())[:4])

    shard_set(folder, b"")
    fuzz("tables of folders", make, read, place.parent, share=0.005, kinds=5)
