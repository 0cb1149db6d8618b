import collections
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import READERS, CheckpointFileError, read_checkpoint_file


class Evil:
    """Unpickling it would write a file; no reader may get that far."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_file_with_all_that_a_run_keeps(tmp_path, legacy):
    data = {
        "tensor": torch.arange(3),
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": np.random.get_state(),
        "python_rng": random.getstate(),
        "numpy_generator": np.random.default_rng(0).bit_generator.state,
        "numbers": [np.float64(0.5), np.int64(7), np.bool_(True), 1.5, None, "text"],
        "ordered": collections.OrderedDict(a=1),
    }
    path = tmp_path / "run.pth"
    torch.save(data, path, _use_new_zipfile_serialization=not legacy)
    got = read_checkpoint_file(path)
    assert got["tensor"].tolist() == [0, 1, 2]
    assert torch.equal(got["torch_rng"], data["torch_rng"])
    assert got["python_rng"] == data["python_rng"]
    assert got["numpy_generator"] == data["numpy_generator"]
    assert got["numbers"] == data["numbers"]
    np.testing.assert_array_equal(got["numpy_rng"][1], data["numpy_rng"][1])
    np.random.RandomState(0).set_state(got["numpy_rng"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_arrays_and_containers(tmp_path, protocol):
    arrays = {
        "float": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "half": np.ones(2, np.float16),
        "bool": np.array([True, False]),
    }
    others = {"scalar": np.float32(2), "set": {1, 2}, "bytes": b"\xff\0", "complex": 1j}
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({**arrays, **others}, protocol))
    got = read_checkpoint_file(path)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)
    assert {name: got[name] for name in others} == others


# numpy.array([1., 2.], "<f4") in a dict, as Python 2 with numpy 1 pickled it: the array's bytes
# are a text, and the modules have their old names. Written by hand from the pickle format.
PYTHON2 = (
    b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
    b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\n"
    b"K\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
    b"\x89U\x08\x00\x00\x80?\x00\x00\x00@q\x0ftq\x10bs."
)


def test_pickle_of_python_2(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(PYTHON2)
    assert read_checkpoint_file(path)["w"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["run.pth", "weights.pkl"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, name, kind):
    path, target = tmp_path / name, tmp_path / "written_by_the_pickle"
    data = {"model": {"w": Evil(target)}}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(data))
    else:
        torch.save(data, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(CheckpointFileError, match=rf"{name} refers to \w+\.open, "):
        read_checkpoint_file(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "numpy.load", "torch.load"])
def test_globals_beyond_arrays_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"U\x01x\x85R.")
    with pytest.raises(CheckpointFileError, match=f"refers to {name}"):
        read_checkpoint_file(path)


def test_codec_of_bytes_cannot_be_chosen_by_the_file(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(CheckpointFileError, match="damaged"):
        read_checkpoint_file(path)


@pytest.mark.parametrize(
    "content, found",
    [
        (b"", "it is empty"),
        (b"\0" * 100, "it is empty"),
        (b"<!DOCTYPE html><html>404", "DOCTYPE html"),
        (b"\xff\xd8\xff\xe0 a photograph", "xff"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    ],
)
def test_foreign_file_is_told_by_what_it_starts_with(tmp_path, content, found):
    path = tmp_path / "model_final.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointFileError, match=f"model_final.pth is not a checkpoint.*{found}"):
        read_checkpoint_file(path)


def test_zip_of_something_else_is_no_checkpoint(tmp_path):
    path = tmp_path / "photos.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "hello")
    with pytest.raises(CheckpointFileError, match=r"photos.pth is damaged, or not a checkpoint"):
        read_checkpoint_file(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_file_is_damaged(tmp_path, legacy):
    path = tmp_path / "run.pth"
    torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointFileError, match=r"run\.pth is damaged"):
        read_checkpoint_file(path)


def test_truncated_pickle_is_damaged(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"w": np.zeros(100)})[:200])
    with pytest.raises(CheckpointFileError, match=r"weights\.pkl is damaged"):
        read_checkpoint_file(path)


def test_one_changed_bit_in_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "run.pth"
    torch.save({"w": torch.full((1000,), 1.5)}, path)
    content = bytearray(path.read_bytes())
    middle = content.index(torch.full((4,), 1.5).numpy().tobytes()) + 800
    content[middle] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointFileError, match="checksum"):
        read_checkpoint_file(path)


def test_a_registered_reader_reads_the_files_of_its_ending(tmp_path, monkeypatch):
    def read(filename):
        values = np.fromfile(filename, dtype=np.float32)
        return {"model": {"weight": values[:2].reshape(1, 2), "bias": values[2:]}}

    monkeypatch.setitem(READERS, ".raw.f4", read)
    np.array([1, 2, 3], dtype=np.float32).tofile(tmp_path / "a.raw.f4")
    model = torch.nn.Linear(2, 1)
    DetectionCheckpointer(model).load(str(tmp_path / "a.raw.f4"))
    assert model.weight.tolist() == [[1, 2]] and model.bias.tolist() == [3]
    (tmp_path / "a.raw.f4").rename(tmp_path / "a.f4")
    with pytest.raises(CheckpointFileError, match=r"a\.f4 is not a checkpoint"):
        DetectionCheckpointer(model).load(str(tmp_path / "a.f4"))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.pth"
    torch.save({"model": {"w": torch.arange(4.0)}, "iteration": 3}, path)
    return path


def test_no_flipped_bit_is_loaded_as_other_weights(saved):
    content = bytearray(saved.read_bytes())
    random.seed(0)
    # All of the directory at the end, and some of the rest.
    begin = content.index(b"PK\1\2")
    places = [*range(begin * 8, len(content) * 8, 3), *random.sample(range(begin * 8), 150)]
    for place in random.sample(places, 400):
        content[place // 8] ^= 1 << place % 8
        saved.write_bytes(content)
        content[place // 8] ^= 1 << place % 8
        try:
            got = read_checkpoint_file(saved)
        except CheckpointFileError as error:
            assert str(saved) in str(error)
        else:
            assert got["iteration"] == 3 and got["model"]["w"].tolist() == [0, 1, 2, 3]


def rewrite(path, change, **settings):
    """Write the records of a file anew: `change(name, content)` gives the content, None drops."""
    with zipfile.ZipFile(path) as archive:
        records = {r.filename: archive.read(r) for r in archive.infolist()}
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in records.items():
            content = change(name.partition("/")[2], content)
            if content is not None:
                archive.writestr(name, content)


@pytest.mark.parametrize(
    "change, settings, message",
    [
        (lambda name, content: content, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        (lambda name, content: b"" if name == "data/0" else content, {}, "data/0 has 0 bytes"),
        (lambda name, content: content[:-4] if name == "data/0" else content, {}, "has 12 bytes"),
        (lambda name, content: None if name == "data/0" else content, {}, "has no bytes"),
        (lambda name, content: None if name == "data.pkl" else content, {}, "data.pkl"),
    ],
)
def test_records_that_are_not_what_tensors_need(saved, change, settings, message):
    rewrite(saved, change, **settings)
    with pytest.raises(CheckpointFileError, match=message):
        read_checkpoint_file(saved)


def test_record_that_is_marked_as_a_folder(saved):
    content = bytearray(saved.read_bytes())
    for at in range(content.index(b"PK\1\2"), len(content)):
        if content[at : at + 4] == b"PK\1\2":
            content[at + 38] |= 0x10  # of the attributes
    saved.write_bytes(content)
    with pytest.raises(CheckpointFileError, match="damaged"):
        read_checkpoint_file(saved)


@pytest.mark.parametrize("legacy", [False, True])
def test_sizes_in_a_torch_file_ask_for_no_memory(tmp_path, legacy):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.zeros(256)}, path, _use_new_zipfile_serialization=not legacy)

    def enlarge(name, content):
        return content.replace(b"M\x00\x01", b"J\x00\x00\x00\x70")  # 256 -> 1.9e9

    if legacy:
        path.write_bytes(enlarge("", path.read_bytes()))
    else:
        rewrite(path, enlarge)
    with pytest.raises(CheckpointFileError, match="damaged"):
        read_checkpoint_file(path)


def test_expanded_tensor_without_end(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.zeros(1).expand(2**40), "small": torch.zeros(1).expand(50)}, path)
    with pytest.raises(CheckpointFileError, match="repeats"):
        read_checkpoint_file(path)


def test_parameters_and_special_types_are_read(tmp_path):
    path = tmp_path / "a.pth"
    data = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "view": torch.arange(6.0).reshape(2, 3).t(),
        "types": [torch.float16, torch.Size([1, 2]), torch.device("cpu"), torch.zeros(0, 3)],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "uint16": torch.ones(2).to(torch.uint16),
        "complex": torch.ones(2, dtype=torch.complex64),
        "state": torch.nn.BatchNorm2d(2).state_dict(),
    }
    torch.save(data, path)
    got = read_checkpoint_file(path)
    assert got["types"][:3] == data["types"][:3]
    for name in ("parameter", "view", "half", "complex"):
        assert torch.equal(got[name], data[name])
    assert got["state"]._metadata == data["state"]._metadata
