import json

import pytest
import safetensors.torch
import torch
from helpers.models import assert_same_weights, load_refused, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.checkpoints import load_model
from ops.checkpoints.safetensors_file import read_safetensors, write_safetensors

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    return path


def with_header(header, data=bytes(8)):
    """A file's bytes, by the definition of the format."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_network_is_the_same(tmp_path):
    model = small_model("tdn")
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    assert_same_weights(load_model(path, 4, quiet=True), model)
    renamed = path.rename(tmp_path / "model.pth")  # recognized by its content
    assert_same_weights(load_model(renamed, 4, quiet=True), model)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    value = (torch.arange(6)[: torch.Size(shape).numel()] % 2).to(dtype).reshape(shape)
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        write_safetensors(file, {"a": value, "byte": torch.ones(1, dtype=torch.uint8)})
    content = read_safetensors(path)
    assert content.keys() == {"a", "byte"}
    assert content["a"].dtype == dtype and torch.equal(content["a"], value)


def test_a_checkpoint_is_the_same(tmp_path):
    content = {"model": {"num_class": 3}, "class_names": ["a", "b"], "recipe": {}, "format": 1}
    weight = torch.arange(6.0).reshape(2, 3).t()  # not contiguous
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        write_safetensors(file, {**content, "state_dict": {"a": weight}})
    found = read_safetensors(path)
    assert torch.equal(found.pop("state_dict")["a"], weight)
    assert found == content


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "shape": [3]},
        {**ENTRY, "shape": [2**40, 2**40]},
        {**ENTRY, "shape": [-2]},
        {**ENTRY, "shape": "2"},
        {**ENTRY, "data_offsets": [8, 0]},
        {**ENTRY, "data_offsets": [8, 16]},
        {**ENTRY, "data_offsets": [10**30, 10**30 + 8]},
        {**ENTRY, "dtype": "F99"},
        {"dtype": "F32", "shape": [2]},
        7,
    ],
)
def test_a_header_that_contradicts_the_file_is_refused(tmp_path, entry):
    path = written(tmp_path, with_header({"a": entry}))
    load_refused(path, path, "not a safetensors checkpoint")


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100000,
        b'{"a":' * 100000,
        b"{]",
        b"{}x",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"\xff": 1}',
        {"a": ENTRY, "b": ENTRY},  # overlap
        {"a": ENTRY, "b": {**ENTRY, "data_offsets": [16, 24]}},  # a hole
        {"a": ENTRY, "__metadata__": {"checkpoint": "{"}},
        {"a": ENTRY, "__metadata__": {"checkpoint": "[" * 100_000}},
        {"a": ENTRY, "__metadata__": {"checkpoint": "3"}},
    ],
)
def test_an_invalid_header_is_refused(tmp_path, header):
    path = written(tmp_path, with_header(header))
    with pytest.raises(ValueError):
        read_safetensors(path)
    load_refused(path, path, "not a safetensors checkpoint")


@pytest.mark.parametrize("length", [2**63, 2**30, 200])
def test_a_length_beyond_the_file_is_refused(tmp_path, length):
    path = written(tmp_path, length.to_bytes(8, "little") + b"{}")
    load_refused(path, path, "not a safetensors checkpoint")


def test_damaged_files_are_refused_or_read(tmp_path):
    whole = safetensors.torch.save(
        {"a.weight": torch.ones(2, 2), "b": torch.zeros(3, dtype=torch.int64)}
    )

    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.integers(0, len(whole)), st.integers(0, len(whole) - 1), st.integers(0, 255))
    def damage(end, position, value):
        data = bytearray(whole)
        data[position] = value
        path = written(tmp_path, data[: end + 1])
        try:
            read_safetensors(path)
        except ValueError as error:
            assert "\n" not in str(error)

    damage()
