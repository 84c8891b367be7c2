"""Headers of safetensors files: what the library writes is read, and no other bytes are taken for a model."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from stj.errors import ModelError
from stj.models.weights import read_weights
from stj.storage.folder import Folder

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn]
SHAPES = st.lists(st.integers(0, 5), max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def read(place: Path) -> dict[str, Any]:
    return dict(read_weights(Folder.at(place), "m", trained=True))


@given(tensors=st.dictionaries(st.text("abc.", min_size=1, max_size=8), st.tuples(st.sampled_from(DTYPES), SHAPES), min_size=1))
def test_what_the_library_writes_is_read(place: Path, tensors: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    save_file({name: torch.zeros(shape).to(dtype) for name, (dtype, shape) in tensors.items()}, place / "model.safetensors")
    assert {name: tensor.shape for name, tensor in read(place).items()} == {name: tuple(t[1]) for name, t in tensors.items()}


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(place: Path, share: float) -> None:
    file = place / "model.safetensors"
    save_file({"a": torch.zeros(8, 4), "b": torch.ones(20)}, file)
    content = file.read_bytes()
    assert read(place)
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"model m: model\.safetensors"):
        read(place)


@pytest.mark.slow
@given(content=st.binary(max_size=64))
def test_any_bytes_are_refused_in_one_line(place: Path, content: bytes) -> None:
    (place / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read(place)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@given(
    header=st.dictionaries(
        st.text(max_size=3), JSON | st.fixed_dictionaries({}, optional={"dtype": JSON, "shape": JSON, "data_offsets": JSON})
    ),
    data=st.binary(max_size=8),
)
def test_any_header_of_json_is_read_or_refused(place: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    with suppress(ModelError):
        assert read(place)
