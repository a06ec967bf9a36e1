"""Small files of scores, lists and images with false sizes: no parser allocates 64 MiB."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import simplejpeg
from helpers.hostile import HUGE, ROOM, takes_little
from helpers.score_dirs import describe
from PIL import Image
from test_hostile_data import shard_set

from ops.data import datasets
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.lists import read_list
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.images import decode_image
from ops.data.readers.shard_paths import StoredVideo
from ops.data.readers.shards import ShardSet
from ops.scores.metadata import read_metadata
from ops.scores.npz_file import load_npz
from ops.scores.pickle_file import load_scores
from ops.testing.journal import Journal

pytestmark = pytest.mark.slow


def npz(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def npy(shape, dtype="|u1", data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return file.getvalue() + data


BOMB = bytes(2**25)
FILES = {
    "npz bomb": lambda: (
        load_npz,
        npz(scores=npy((len(BOMB), 1, 1, 1), data=BOMB), labels=npy((len(BOMB),), data=BOMB)),
    ),
    "npz of its limit": lambda: (
        load_npz,
        npz(
            scores=npy((2**21 - 128, 1, 1, 1), data=bytes(2**21 - 128)),
            labels=npy((2**21 - 128,), data=bytes(2**21 - 128)),
        ),
    ),
    "npz shape": lambda: (load_npz, npz(scores=npy((HUGE, HUGE, 1, 1)))),
    "npy header": lambda: (load_npz, npz(scores=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{")),
    "npz pickle": lambda: (load_npz, npz(scores=npy((HUGE, 2), "|O", b"\x80\x02\x8a\xff."))),
    "pkl": lambda: (load_scores, b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"]."),
    "pkl text": lambda: (load_scores, b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"ab."),
    "pkl memo": lambda: (load_scores, b"\x80\x02]r\xff\xff\xff\xff."),
    "pkl rows": lambda: (
        load_scores,
        pickle.dumps([[np.ones((1, 1000), "f4"), 0]], 2)[:-3] + b"2" * 9000 + b"e.",
    ),
    "log": lambda: (
        lambda path: Journal(path.parent, 4, 6),
        struct.pack("<4sqI", b"SCOR", 0, 2**32 - 1) + bytes(4),
    ),
    "list label": lambda: (
        lambda path: read_list(path, num_class=10**6, multi_label=True),
        b"v 999999999999999999\n",
    ),
    "list of one line": lambda: (lambda path: read_list(path, num_class=10), b"a " * 45_000),
    "list of blanks": lambda: (
        lambda path: read_list(path, num_class=10),
        b"a" + b" " * 90_000 + b"1 " + b" " * 9000 + b"x",
    ),
    "list of labels": lambda: (
        lambda path: read_list(path, num_class=10, multi_label=True),
        b"a " + b"1," * 45_000 + b"x",
    ),
    "class name": lambda: (lambda path: flip_label_map(read_class_names(path)), b"aB" * 45_000),
    "class names": lambda: (lambda path: flip_label_map(read_class_names(path)), b"a\n" * 45_000),
    "json": lambda: (read_class_names, b"[" * 90_000),
    "toml arrays": lambda: (dataset, b"flip_pairs = " + b"[" * 90_000),
    "toml keys": lambda: (dataset, b"num_class" + b".a" * 45_000 + b" = 1"),
    "toml tables": lambda: (dataset, b"".join(b"[a%s]\n" % (b".a" * i) for i in range(190))),
    "toml number": lambda: (dataset, b"num_class = 1_000_000_000_000\ntrain_list = 'a'\n"),
    "toml template": lambda: (dataset, b"num_class = 1\nimage_tmpl = '{:0999999999d}'"),
    "toml precision": lambda: (dataset, b"num_class = 1\nimage_tmpl = '{:.999999999f}'"),
    "jpeg": lambda: (picture, jpeg(65_500)),
    "png": lambda: (picture, png(25_000)),
    "png of its limit": lambda: (picture, png(2896)),
    "webp": lambda: (
        picture,
        b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0VP8L\0\0\0\0",
    ),
    "bmp": lambda: (
        picture,
        b"BM" + struct.pack("<6I2H6I", 99, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
    ),
    "ppm": lambda: (picture, b"P6 60000 60000 255\n"),
    "eps": lambda: (picture, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
}


def dataset(path):
    toml = path.with_suffix(".toml")
    path.rename(toml)
    found = datasets.resolve(str(toml))
    datasets.flip_map(found, None)


def picture(path):
    decode_image(str(path.parent), path.name)


def jpeg(side):
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", side, side)
    return bytes(data)


def png(side):
    """The whole picture, of one colour."""
    file = io.BytesIO()
    Image.new("L" if side < 9000 else "1", (side, side)).save(file, "PNG", optimize=True)
    return file.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_files_that_lie(tmp_path, name):
    read, data = FILES[name]()
    takes_little(
        data, tmp_path / "0.log", read, room=ROOM * (1 + (name == "png of its limit"))
    )  # 4K, and all there


def test_an_eps_file_is_no_frame(tmp_path):
    """PIL would have another program run it."""
    (tmp_path / "f.jpg").write_bytes(FILES["eps"]()[1])
    with pytest.raises(UnreadableVideo, match="cannot identify"):
        decode_image(str(tmp_path), "f.jpg")


@pytest.mark.parametrize("change", [{"num_class": 2**31 - 1}, {"crops": 2**31 - 1}])
def test_descriptions_of_scores_that_lie(tmp_path, change):
    describe(tmp_path, np.eye(8, dtype=bool)[[0] * 1000])
    content = json.loads((tmp_path / "scores.json").read_text())
    content["protocol"].update(change)
    takes_little(
        json.dumps(content).encode(),
        tmp_path / "scores.json",
        lambda path: read_metadata(path.parent),
    )


def test_shard_sets_that_lie(tmp_path):
    table = json.dumps({"files": [[f"f{i}", 0, 5000, 0] for i in range(3000)]}).encode()
    rows = b"a\tfolder\t0\t0\t%d\t%08x\nv\tvideo\t0\t0\t%d\t00000000\n" % (
        len(table),
        zlib.crc32(table),
        HUGE,
    )

    def read(path):
        shard_set(path.parent, rows, 10**18)
        path.write_bytes(table)
        shards = ShardSet(str(path.parent))
        stored = StoredVideo("a", shards, shards.find("a"))
        with pytest.raises(UnreadableVideo, match="truncated"):
            stored.read(sorted(stored.names()))
        StoredVideo("v", shards, shards.find("v")).opener()

    (tmp_path / "k.shards").mkdir()
    takes_little(b"", tmp_path / "k.shards" / "shard-000000.tar", read, "truncated")
