"""Changes to bytes and to JSON, as hypothesis draws them."""

import copy
import json
import struct
import zlib
from typing import Any

from hypothesis import strategies as st

# Near the beginning, near the end, or anywhere.
_PLACE = st.one_of(st.integers(0, 120), st.integers(-120, -1), st.integers(0, 2**24))
_NUMBERS = [
    0,
    1,
    2,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**64 - 1,
]
_TEXTS = [
    b"\0", b"9999999999", b"-1", b"1e999", b"NaN", b"[" * 2000, b"{", b'"', b"../../../etc/passwd",
    b"\xff\xfe", b"blocks.999999999.", b"\n", b",,,", b"\xf0\x9f\x92\xa9",
]  # fmt: skip
# Of pickles: what calls, fetches, sets attributes, counts, and drops.
_OPCODES = [
    b"cos\nsystem\n(S'false'\ntR", b"cbuiltins\neval\n", b"\x8c\x02os\x8c\x06system\x93", b"}b",
    b"R", b"\x81", b"0", b"2", b"t", b"(", b"N", b"Q", b"h\x00", b"cargparse\nNamespace\n)R", b"e",
    b"u", b"r\xff\xff\xff\x0f", b"\x8e\xff\xff\xff\x7f\0\0\0\0", b"\x8b\xff\xff\xff\x7f", b"K\x01",
    b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"c_codecs\nencode\n",
]  # fmt: skip


def edits(most: int = 4) -> st.SearchStrategy[list[tuple]]:
    """A few changes, which `changed` makes."""
    one = st.one_of(
        st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
        st.tuples(st.just("number"), _PLACE, st.sampled_from(_NUMBERS), st.sampled_from("BHIQ"),
                  st.sampled_from("<>")),
        st.tuples(st.just("put"), _PLACE, st.sampled_from(_TEXTS) | st.binary(max_size=12)),
        st.tuples(st.just("over"), _PLACE, st.sampled_from(_TEXTS) | st.binary(max_size=12)),
        st.tuples(st.just("opcode"), _PLACE, st.sampled_from(_OPCODES)),
        st.tuples(st.just("drop"), _PLACE, st.integers(1, 4096)),
        st.tuples(st.just("swap"), _PLACE, _PLACE, st.integers(1, 512)),
        st.tuples(st.just("repeat"), _PLACE, st.integers(1, 512), st.integers(1, 64)),
        st.tuples(st.just("cut"), _PLACE),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=most)


def changed(data: bytes, edits: list[tuple]) -> bytes:
    """Bytes after these changes."""
    made = bytearray(data)
    for kind, place, *how in edits:
        at = place % (len(made) + 1) if made else 0
        if kind == "flip" and at < len(made):
            made[at] ^= 1 << how[0]
        elif kind == "number":
            value, width, order = how
            packed = struct.pack(order + width, value % 2 ** (8 * struct.calcsize(order + width)))
            made[at : at + len(packed)] = packed
        elif kind in ("put", "opcode"):
            made[at:at] = how[0]
        elif kind == "over":
            made[at : at + len(how[0])] = how[0]
        elif kind == "drop":
            del made[at : at + how[0]]
        elif kind == "swap":
            there, length = how[0] % (len(made) + 1), how[1]
            low, high = sorted((at, there))
            length = min(length, high - low)
            one, other = made[low : low + length], made[high : high + length]
            made[low : low + length], made[high : high + length] = other, one
        elif kind == "repeat":
            made[at:at] = bytes(made[at : at + how[0]]) * how[1]
        elif kind == "cut":
            del made[at:]
    return bytes(made)


_DEEP = json.loads("[" * 40 + "]" * 40)
_VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 2**70, 10**400, 1e308, 0.5, -0.5, "", "x",
         "../../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "1", [], {}, [1], [1, 2], ["a"],
         [[1]], [None], {"a": 1}, _DEEP, float("nan"), float("inf"), [float("nan")] * 3,
         [0.5] * 3, [2**40, 2**40], "os.path.join", "this.That"]
    ),
    st.integers(), st.text(max_size=5),
)  # fmt: skip
TREE_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "drop", "rename", "double"]),
        st.integers(0, 2**16),
        _VALUES,
    ),
    min_size=1,
    max_size=3,
)


def changed_tree(tree: Any, edits: list[tuple]) -> Any:
    """What JSON can hold after these changes; each is made to one of all values in it."""
    box = {"": json.loads(json.dumps(tree))}
    for kind, which, value in edits:
        places = list(_places(box))
        holder, key = places[which % len(places)]
        if kind == "drop" and holder is not box:
            del holder[key]
        elif kind == "rename" and isinstance(holder, dict) and holder is not box:
            holder[str(value)] = holder.pop(key)
        elif kind == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(value)
    return box[""]


def _places(holder):
    items = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for key, value in items:
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def png_with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks' checksums are right, so that what is in them is looked at."""
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        (length,) = struct.unpack(">I", made[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(made):
            break
        made[end : end + 4] = struct.pack(">I", zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)
