import collections
import io
import pickle
import struct

import numpy as np
import pytest

from d2lite.utils.plain_pickle import PlainUnpickler, RefusedGlobalError


def load(content):
    return PlainUnpickler(io.BytesIO(content), len(content)).load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    value = {
        "array": np.arange(6, dtype=">i4").reshape(2, 3),
        "ids": np.array(["a", "bcd"]),
        "scalar": np.float32(1.5),
        "bytes": [b"\0\xff", bytearray(b"ab")],
        "sets": [{1, ("a", 2)}, frozenset([1, 2])],
        "ordered": collections.OrderedDict(a=1),
        ("a", 1): (None, True, 2**40, 1j, "text"),
    }
    got = load(pickle.dumps(value, protocol))
    np.testing.assert_array_equal(got.pop("array"), value.pop("array"))
    np.testing.assert_array_equal(got.pop("ids"), value.pop("ids"))
    assert got == value


# Python 2's text, so that a few letters are the content of an array.
def array(
    kind=b"cnumpy\ndtype\n(S'i1'\nI0\nI1\ntR", shape=b"(I2\nt", content=b"S'ab'\n", state=b""
):
    new = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return new + b"(I1\n" + shape + kind + state + b"I00\n" + content + b"tb."


def test_array_by_hand():
    assert load(array()).tolist() == [97, 98]
    assert load(array(state=b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb")).tolist() == [97, 98]


SHARED = b"".join(b"(g%d\ng%d\ntp%d\n" % (i, i, i + 1) for i in range(70))
HOSTILE = {
    "object array": array(kind=b"cnumpy\ndtype\n(S'O8'\ntR"),
    "void array": array(kind=b"cnumpy\ndtype\n(S'V8'\ntR"),
    "structure": array(kind=b"cnumpy\ndtype\n((lp0\nS'a'\natR"),
    "fields in the state": array(state=b"(I3\nS'<'\nN(S'x'\nt}I8\nI1\nI0\ntb"),
    "flags of pointers": array(state=b"(I3\nS'<'\nNNNI-1\nI-1\nI63\ntb"),
    "size of its own": array(state=b"(I3\nS'<'\nNNNI800\nI-1\nI0\ntb"),
    "state of a shared type": array(
        kind=b"cnumpy\ndtype\n(S'i1'\ntR", state=b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    ),
    "two states": array(state=2 * b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"),
    "aligned type": array(kind=b"cnumpy\ndtype\n(S'i1'\nNI1\ntR"),
    "empty array of a size": array().replace(b"(I0\n", b"(I2000000000\n"),
    "empty array of objects": array().replace(b"S'b'", b"S'O'"),
    "more elements than bytes": array(shape=b"(I2000000000\nt"),
    "fewer elements than bytes": array(shape=b"(I1\nt"),
    "negative shape": array(shape=b"(I-1\nI-2\nt"),
    "list as content": array(content=b"(lp0\n"),
    "content twice": array()[:-1] + array()[array().index(b"(I1") :],
    "bytearray of a size": b"c__builtin__\nbytearray\n(L8000000000L\ntR.",
    "long memo index": b"\x80\x02}r\xff\xff\xff\xff" + b"0N.",
    "8 GB announced": b"\x80\x04\x8e" + struct.pack("<Q", 8 * 2**30) + b"a.",
    "bytearray announced": b"\x80\x05\x96" + struct.pack("<Q", 8 * 2**30) + b"a.",
    "frame announced": b"\x80\x04\x95" + struct.pack("<Q", 8 * 2**30) + b"N.",
    "key whose hash takes years": b"Np0\n" + SHARED + b"p99\n0(g70\nI1\nd.",
    "references without end": b"Np0\n" + SHARED + b".",
    "deep": b"]" * 3000 + b"a" * 2999 + b".",
    "contains itself": b"\x80\x02]q\x00h\x00a.",
    "state of a function": b"ccollections\nOrderedDict\n}b.",
    "attribute of a dict": b"ccollections\nOrderedDict\n(tR(S'items'\nI1\ndb.",
    "call of a number": b"I1\n(tR.",
    "unknown instruction": b"\x80\x02\xff.",
    "extension": b"\x80\x02\x82\x01.",
    "ends early": b"\x80\x02}q",
    "nothing": b"",
}


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "long memo index"])
def test_harm_is_refused(name):
    with pytest.raises(pickle.UnpicklingError):
        load(HOSTILE[name])


def test_memo_index_takes_no_memory():
    assert load(HOSTILE["long memo index"]) is None


@pytest.mark.parametrize("name", ["os.system", "numpy.load", "builtins.getattr", "copyreg._rec"])
def test_other_names_are_refused(name):
    module, _, attribute = name.partition(".")
    with pytest.raises(RefusedGlobalError, match=name):
        load(f"c{module}\n{attribute}\n.".encode())
