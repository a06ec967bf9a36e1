"""Files of every kind that would run a program: it never runs."""

import os
import pickle

import pytest
from test_hostile_checkpoints import legacy, of, tensor, text, zipped
from test_hostile_headers import npy, npz

from ops.checkpoints.torch_file import read_checkpoint
from ops.scores.npz_file import load_npz
from ops.scores.pickle_file import load_scores
from ops.utils.errors import UserError

pytestmark = pytest.mark.slow

CODE = {
    "reduce": b"cposix\nsystem\n%s\x85R",
    "global": b"cos\nsystem\n%s\x85R",
    "inst": b"(%sios\nsystem\n",
    "obj": b"(cos\nsystem\n%so",
    "newobj": b"cos\nsystem\n%s\x85\x81",
    "build": b"cargparse\nNamespace\n)\x81}X\x01\0\0\0acos\nsystem\n%s\x85Rsb",
    "persistent": b"cos\nsystem\n%s\x85RQ",
    "persistent text": b"Pos.system\n",
    "extension": b"\x82\x01%s\x85R",
    "exec": b"c__builtin__\nexec\n%s\x85R",
    "map": b"c__builtin__\nmap\n(cos\nsystem\n](%setR",
    "nested": b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR%s\x85R",
    "stack global": b"\x8c\x02os\x8c\x06system\x93%s\x85R",
    "in a tensor": b"ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\n%s\x85RK\0))\x89NtR",
    "a tensor's type": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n%s\x85}tR"
    ),
    "hooks": tensor().replace(b"ccollections\nOrderedDict\n)R", b"cos\nsystem\n%s\x85R"),
    "in set": b"c__builtin__\nset\ncos\nsystem\n%s\x85R\x85R",
    "torch": b"ctorch.utils.collect_env\nrun\n%s\x85R",
    "jit": b"ctorch.jit\n_unpickler\n%s\x85R",
    "dotted": b"ctorch\nserialization.os.system\n%s\x85R",
}


@pytest.mark.parametrize("name", CODE)
def test_no_code_is_run(tmp_path, name):
    mark = tmp_path / "it ran"
    command = text(f"touch '{mark}'".encode())
    program = CODE[name] % command if b"%s" in CODE[name] else CODE[name]
    if name in (
        "reduce",
        "inst",
        "build",
    ):  # the test could fail: Python's own unpickler does run it
        pickle.loads(b"\x80\x02" + program + b".")
        mark.unlink()
    rows = npy((1, 2), "|O", b"\x80\x02" + program + b".")
    for data, read in (
        (zipped(of(program)), read_checkpoint),
        (legacy(of(program)), read_checkpoint),
        (of(program), load_scores),
        (
            zipped(of(program), **{"constants.pkl": of(program), "code/x.py": b"import os"}),
            read_checkpoint,
        ),
        (legacy(of(program)).replace(of(program), b"\x80\x02N.") + of(program), read_checkpoint),
        (npz(0, scores=rows, labels=rows), load_npz),
    ):
        (tmp_path / "file").write_bytes(data)
        try:
            read(tmp_path / "file")
        except UserError as error:
            assert "\n" not in str(error)
        assert not mark.exists() and os.listdir(tmp_path) == ["file"]
