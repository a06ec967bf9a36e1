import json

import pytest
import torch
from helpers.models import assert_same_weights, load_refused, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.checkpoints import load_model
from ops.checkpoints.safetensors_reader import DTYPES, InvalidSafetensors, read_safetensors


def encode(tensors, header=None):
    """A file's bytes, by the definition of the format; header: entries to replace."""
    entries, data = {"__metadata__": {"format": "pt"}}, b""
    names = {dtype: name for name, dtype in DTYPES.items()}
    for name, tensor in tensors.items():
        values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        entries[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(values)],
        }
        data += values
    text = json.dumps({**entries, **(header or {})}).encode()
    return len(text).to_bytes(8, "little") + text + data


def written(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    return path


def test_a_network_is_the_same(tmp_path):
    model = small_model("tdn")
    path = written(tmp_path, encode(model.state_dict()))
    assert_same_weights(load_model(path, 4, quiet=True), model)
    renamed = path.rename(tmp_path / "model.pth")  # known by its content
    assert_same_weights(load_model(renamed, 4, quiet=True), model)


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    value = (torch.arange(24).reshape(-1)[: torch.Size(shape).numel()] % 2).to(dtype).reshape(shape)
    tensors = {"byte": torch.ones(1, dtype=torch.uint8), "a": value}  # at an odd offset
    read = read_safetensors(written(tmp_path, encode(tensors)))
    assert list(read) == ["byte", "a"]
    assert read["a"].dtype == dtype and torch.equal(read["a"], value)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**ENTRY, "shape": [3]}},
        {"a": {**ENTRY, "shape": [2**40, 2**40]}},
        {"a": {**ENTRY, "shape": [-2]}},
        {"a": {**ENTRY, "shape": [True, 2]}},
        {"a": {**ENTRY, "shape": [1] * 100 + [2]}},
        {"a": {**ENTRY, "shape": "2"}},
        {"a": {**ENTRY, "data_offsets": [8, 0]}},
        {"a": {**ENTRY, "data_offsets": [0, 8, 16]}},
        {"a": {**ENTRY, "data_offsets": [8, 16]}},
        {"a": {**ENTRY, "data_offsets": [0.0, 8.0]}},
        {"a": {**ENTRY, "data_offsets": [10**30, 10**30 + 8]}},
        {"a": {**ENTRY, "dtype": "F8_E4M3"}},
        {"a": {**ENTRY, "dtype": ["F32"]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 7},
        {"b": ENTRY},  # overlaps a
        {"b": {**ENTRY, "data_offsets": [16, 24]}},  # a hole
    ],
)
def test_a_header_that_contradicts_the_file_is_refused(tmp_path, header):
    path = written(tmp_path, encode({"a": torch.ones(2)}, header))
    with pytest.raises(InvalidSafetensors):
        read_safetensors(path)
    load_refused(path, path, "not a safetensors checkpoint")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100000,
        '{"a":' * 100000,
        "{]",
        "{}x",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": 1, "a": 2}',
        '{"\ud800": 1}',
    ],
)
def test_hostile_json_is_refused(tmp_path, text):
    encoded = text.encode("utf-8", "surrogatepass")
    path = written(tmp_path, len(encoded).to_bytes(8, "little") + encoded)
    with pytest.raises(InvalidSafetensors):
        read_safetensors(path)


@pytest.mark.parametrize("length", [2**63, 2**30, 200])
def test_a_length_beyond_the_file_is_refused(tmp_path, length):
    path = written(tmp_path, length.to_bytes(8, "little") + b"{}")
    load_refused(path, path, "not a safetensors checkpoint")


def test_damaged_files_are_refused_or_read(tmp_path):
    whole = encode({"a.weight": torch.ones(2, 2), "b": torch.zeros(3, dtype=torch.int64)})

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
        except InvalidSafetensors as error:
            assert "\n" not in str(error)

    damage()
