"""Files of torch.save come back as torch.load gives them; those made to harm are refused before they are unpacked."""

import pickle
import struct
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cxr.learn.plain_pickle import Opaque
from cxr.learn.torch_archive import LIMIT, TorchFileError
from cxr.learn.torch_file import read_state, read_torch_file, refuse_not_finite

# --- what torch writes


def content() -> dict[str, Any]:
    numbers = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    tensors = {
        "whole": numbers,
        "turned": numbers.T,
        "part": numbers[1:, ::2],  # of the same numbers
        "number": torch.tensor(0.5),
        "none": torch.zeros(0, 4),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "layer": nn.Parameter(torch.ones(2)),
        **{str(kind): torch.tensor([1, 2, 3]).to(kind) for kind in kinds},
    }
    plain = {
        "a": [1, 2.5, None, True, "胸部", -(2**40)],
        7: (1, (2, 3)),
        "counts": Counter(a=2),
        "nested": OrderedDict(b=1),
    }
    return {"state_dict": tensors, "plain": plain}


@pytest.mark.parametrize("zipped", [True, False])  # False: the format of before torch 1.6
def test_what_torch_wrote_comes_back_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    torch.save(content(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    theirs, ours = torch.load(tmp_path / "a.pt", weights_only=True), read_torch_file(tmp_path / "a.pt")
    assert ours["plain"] == theirs["plain"] == content()["plain"]
    for name, tensor in theirs["state_dict"].items():
        mine = ours["state_dict"][name]
        assert (mine.dtype, mine.shape, mine.stride()) == (tensor.dtype, tensor.shape, tensor.stride()), name
        assert torch.equal(mine, tensor), name
    whole, part = (ours["state_dict"][name].untyped_storage().data_ptr() for name in ("whole", "part"))
    assert whole == part


def test_the_checkpoint_of_an_optimizer_is_plain_data(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": layer.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.ckpt")
    again = read_torch_file(tmp_path / "a.ckpt")
    optimizer.load_state_dict(again["optimizer"])
    assert torch.equal(read_state(tmp_path / "a.ckpt")["weight"], layer.weight)


def test_what_is_not_read_is_opaque_where_that_is_asked_for(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(1, 1), "at": Path("x")}, tmp_path / "a.pt")
    module = read_torch_file(tmp_path / "a.pt", opaque=True)["model"]
    assert isinstance(module, Opaque)
    assert module.state["_parameters"]["weight"].shape == (1, 1)
    with pytest.raises(TorchFileError, match=r"it names torch\.nn\.modules\.linear\.Linear, .* plain data only"):
        read_torch_file(tmp_path / "a.pt")


# --- archives


def written(path: Path, pickled: bytes, *records: bytes, how: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive as torch does, of a pickle (without its ends) and numbers."""
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + pickled + b".")
        archive.writestr("a/byteorder", b"little")
        for number, record in enumerate(records):
            archive.writestr(f"a/data/{number}", record)
    return path


def plain(value: Any) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def reference(count: int, kind: bytes = b"FloatStorage", key: str = "0") -> bytes:
    return b"(" + plain("storage") + b"ctorch\n" + kind + b"\n" + plain(key) + plain("cpu") + plain(count) + b"tQ"


def tensor(size: Any, stride: Any, offset: Any = 0, count: int = 1) -> bytes:
    """Return the pickle of a tensor over ``count`` numbers."""
    arguments = reference(count) + b"".join(map(plain, (offset, size, stride))) + b"\x89}t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"R"


def stated(path: Path, size: int) -> Path:
    """Let each member of an archive say in the archive's list that it has ``size`` bytes."""
    data = bytearray(path.read_bytes())
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 20 : place + 28] = struct.pack("<II", size, size)
        place = data.find(b"PK\x01\x02", place + 4)
    path.write_bytes(data)
    return path


def long_list(path: Path) -> Path:
    """Let the end of torch's own archive say that its list of members has a gigabyte."""
    torch.save({}, path)
    data = bytearray(path.read_bytes())
    data[-98 + 40 : -98 + 48] = struct.pack("<Q", 2**30)
    path.write_bytes(data)
    return path


def other_local_name(path: Path) -> Path:
    data = written(path, plain({})).read_bytes()
    path.write_bytes(data.replace(b"a/data.pkl", b"a/evil.pkl", 1))
    return path


def twice(path: Path) -> Path:
    written(path, plain({}))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/data.pkl", b"\x80\x02}.")
    return path


def shared(path: Path) -> Path:
    """Let the list of members place and size a member of 8 bytes as the one of a megabyte before it."""
    data = bytearray(written(path, plain({}), bytes(2**20), bytes(8)).read_bytes())
    small = data.rfind(b"PK\x01\x02")
    large = data.rfind(b"PK\x01\x02", 0, small)
    for first, last in ((16, 28), (42, 46)):  # checksum and sizes, place
        data[small + first : small + last] = data[large + first : large + last]
    path.write_bytes(data)
    return path


def flipped(path: Path) -> Path:
    torch.save({"state_dict": {"w": torch.full((100,), 0.5)}}, path)
    data = bytearray(path.read_bytes())
    data[data.find(struct.pack("<f", 0.5) * 100) + 17] ^= 1
    path.write_bytes(data)
    return path


def torn(path: Path) -> Path:
    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def program(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    return path


def legacy(path: Path) -> Path:
    """Write a file of the old format that states 10¹² numbers."""
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x03Nt", b"\x8a\x06" + (10**12).to_bytes(6, "little") + b"Nt"))
    return path


def bytes_of(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


DEFLATED = zipfile.ZIP_DEFLATED
ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bomb": (
        lambda p: stated(written(p, plain({}), bytes(9)), 2**31),
        r"unpacks to 6,442,450,944 bytes.*CXR_MAX_CHECK",
    ),
    "compressed": (lambda p: written(p, plain({}), bytes(10**7), how=DEFLATED), r"is compressed, .* never does"),
    "sizes that lie": (lambda p: stated(written(p, plain({}), bytes(9)), 10**6), "they state 3,000,000 bytes, and the"),
    "members that overlap": (shared, "its members overlap"),
    "one name twice": (twice, "members of one name"),
    "names that differ": (other_local_name, r"its member data\.pkl is damaged"),
    "a list of a gigabyte": (long_list, "its list of members has more than 4,194,304 bytes"),
    "a pickle of 17 MB": (lambda p: written(p, b"N0" * 9 * 2**20), r"'data\.pkl' has 18,874,371 bytes, allowed"),
    "one bit flipped": (flipped, "its member data/0 is damaged: Bad CRC-32"),
    "torn": (torn, "its end is missing"),
    "a program": (program, r"it has no member 'data\.pkl'"),
    "empty": (bytes_of(b""), "it is empty"),
    "a page": (bytes_of(b"<html>"), "it is not written by torch"),
    "a raw pickle": (bytes_of(pickle.dumps({})), "it is not written by torch"),
    "numbers without end": (legacy, "it states more numbers than it has bytes"),
}


@pytest.mark.parametrize(("write", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_torch_would_not_write_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    path = write(tmp_path / "hostile.ckpt")
    tracemalloc.start()
    try:
        with pytest.raises(TorchFileError, match=message):
            read_torch_file(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size + 2**20
    finally:
        tracemalloc.stop()


def test_the_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.ones(1000)}, tmp_path / "a.pt")
    monkeypatch.setenv(LIMIT, "4000")
    with pytest.raises(TorchFileError, match=r"bytes, allowed are 4,000; .* CXR_MAX_CHECKPOINT_BYTES to more"):
        read_torch_file(tmp_path / "a.pt")
    monkeypatch.setenv(LIMIT, "100000")
    assert read_torch_file(tmp_path / "a.pt")["w"].sum() == 1000
    for setting in ("4 GB", "0", "-1", ""):
        monkeypatch.setenv(LIMIT, setting)
        with pytest.raises(TorchFileError, match="expected a number of bytes above 0"):
            read_torch_file(tmp_path / "a.pt")


# --- pickles


def doubled(empty: bytes, times: int = 60) -> bytes:
    """Return the pickle of a container that stands twice in the next, and so on: 2^times values from 10 bytes each."""
    code = empty + b"q\x00"
    for _ in range(times):
        code += b"]q\x01(h\x00h\x00e" + b"q\x00"
    return code


NONE = b"N"
PICKLES: dict[str, tuple[bytes, str]] = {
    "more numbers than are kept": (tensor((1,), (1,), count=10**6), "states 1,000,000 numbers of 4 bytes where it"),
    "a shape of a billion": (
        tensor((10**9,), (1,)),
        r"states a tensor of shape \[1000000000\] where it holds 1 numbers",
    ),
    "a shape of a billion, expanded": (tensor((10**9,), (0,)), r"states a tensor of shape \[1000000000\]"),
    "a product beyond 64 bits": (tensor((2**40, 2**40, 0), (1, 1, 1)), "states a tensor of shape"),
    "an offset beyond the numbers": (tensor((1,), (1,), offset=7), "states a tensor of shape"),
    "a stride backwards": (tensor((1,), (-1,)), "a tensor has no shape"),
    "a shape of texts": (tensor(("a",), (1,)), "a tensor has no shape"),
    "more strides than sides": (tensor((1,), (1, 1)), "states a tensor of shape"),
    "a million dimensions": (tensor((1,) * 10**5, (1,) * 10**5), "a tensor has no shape"),
    "a thousand million million values": (doubled(b"]"), "holds more than 1,000,000 values"),
    "ten thousand lists deep": (b"]" * 10**4 + b"a" * (10**4 - 1), "containers more than 64 deep"),
    "a list in itself": (b"]q\x00h\x00a", "containers more than 64 deep"),
    "two million instructions": (NONE + b"N0" * 10**6, "more than 1,000,000 instructions"),
    "a key that is slow to hash": (b"}N\x85NsN", "a mapping whose key is of type tuple"),
    "keys that share a hash": (b"}\x8a\x09" + (2**64).to_bytes(9, "little") + b"Ns", "integer beyond 60 bits"),
    "an integer of 1,000 bits": (b"\x8a\x7e" + b"\x01" * 126, "an integer of 1001 bits, allowed are 128"),
    "an integer of a gigabyte": (b"\x8b\x00\x00\x00\x40", "instruction b'\\\\x8b'"),
    "a text longer than the file": (b"X\xff\xff\xff\xff", "ends too early"),
    "another protocol": (b"\x95" + bytes(8), "instruction b'\\\\x95'"),
    "a function": (b"cos\nsystem\n(X\x02\x00\x00\x00lstR", r"it names os\.system"),
    "a function of torch": (b"ctorch\nsave\n)R", r"it names torch\.save"),
    "sparse": (b"ctorch._utils\n_rebuild_sparse_tensor\n)R", "it names torch._utils._rebuild_sparse_tensor"),
    "quantized": (b"ctorch._utils\n_rebuild_qtensor\n)R", "it names torch._utils._rebuild_qtensor"),
    "without numbers": (
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R",
        "it names torch._utils._rebuild_meta_tensor_no_storage",
    ),
    "a number called": (b"K\x01)R", "calls what is no function"),
    "a text filled": (plain("a") + b"}b", "fills an object of type str"),
    "a stack that is empty": (b"0", "it is damaged at byte"),
    "what was not kept": (b"h\x05", "it is damaged at byte"),
    "a mark that is not there": (b"t", "closes what it did not open"),
    "a name that does not end": (b"c" + b"a" * 2000, "a name that does not end"),
    "numbers of no kind": (b"(" + plain("storage") + b"NNNNtQ", "refers to no numbers"),
}


@pytest.mark.parametrize(("pickled", "message"), PICKLES.values(), ids=PICKLES)
def test_a_pickle_that_would_harm_is_refused(tmp_path: Path, pickled: bytes, message: str) -> None:
    path = written(tmp_path / "hostile.ckpt", pickled, b"\0\0\0\0")
    with pytest.raises(TorchFileError, match=message):
        read_torch_file(path)


def test_a_place_in_the_memory_far_away_takes_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", b"}r\xff\xff\xff\xffj\xff\xff\xff\xff")  # Python's own reader takes 64 GB
    assert read_torch_file(path) == {}


def test_copies_are_not_made_for_the_asking(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.ckpt", b"]q\x00(" + b"N" * 10**4 + b"e(" + b"c__builtin__\nset\nh\x00\x85R" * 90 + b"t"
    )
    tracemalloc.start()
    try:
        assert len(read_torch_file(path)) == 90
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_values_that_are_not_finite_are_counted(value: float, kind: torch.dtype) -> None:
    good, bad = torch.ones(3, 2, dtype=kind), torch.ones(3, 2, dtype=kind)
    bad[1] = value
    refuse_not_finite({"a": good, "b": torch.tensor([1, 2]), "c": torch.zeros(0), "d": torch.tensor(3e38)})
    with pytest.raises(TorchFileError, match=r"2 of 6 values of b are not finite \(NaN or ∞\), and 1 more tensors"):
        refuse_not_finite({"a": good, "b": bad, "c": bad})
