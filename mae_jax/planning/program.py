"""What a compiled TPU program would take, read from its text.

XLA's TPU compiler writes its own estimate of cycles on every operation, and the program shows what
moves between chips. Loops count as often as they run. This is the compiler's cost model, not a
measurement: no program was run.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# The first that matches decides: what an operation is for, by the scope it was traced in.
_PURPOSES = tuple(
    (part, re.compile(rf"\b{part}\b")) for part in ("optimizer", "attention", "normalisation")
)
_MOVING = frozenset(
    [
        "bitcast",
        "broadcast",
        "concatenate",
        "constant",
        "convert",
        "copy",
        "dynamic-slice",
        "dynamic-update-slice",
        "fusion",
        "gather",
        "pad",
        "parameter",
        "reshape",
        "scatter",
        "slice",
        "transpose",
        "tuple",
    ]
)
PARTS = ("dense", "attention", "normalisation", "optimizer", "data movement", "other")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of collective of a step.

    Attributes:
      kind: as XLA calls it.
      count: how many.
      bytes: what one device receives over all of them.
      network: ici within a slice, or dcn between several; as attributes of `chips.Chip`.
    """

    kind: str
    count: int
    bytes: float
    network: str = "ici"


@dataclasses.dataclass(frozen=True)
class Program:
    """What one device does in a step.

    Attributes:
      cycles: by part of `PARTS`, as the compiler estimates them.
      collectives: by kind.
    """

    cycles: dict[str, float]
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class _Operation:
    name: str
    kind: str
    shape: str
    line: str

    def find(self, pattern: str) -> str | None:
        found = re.search(pattern, self.line)
        return found.group(1) if found else None


def read(text: str) -> Program:
    """Reads the text of a compiled program, as `compiled.as_text()` gives it.

    Raises:
      ValueError: the text has no entry, or no estimates: it is not of a TPU.
    """
    computations = _computations(text)
    if "ENTRY" not in computations:
        raise ValueError("this is no compiled program: it has no ENTRY")
    cycles, moved, counts, chains = Counter(), Counter(), Counter(), set()
    for operation, times in _executed(computations, "ENTRY", 1):
        estimate = operation.find(r'"estimated_cycles":"(\d+)"')
        if operation.kind == "recv" and (between := _between_slices(operation)):
            kind, received = between
            moved["dcn", kind] += times * received
            counts["dcn", kind] += times
        collective = _collective(operation, computations)
        if collective:
            kind, inner = collective
            # One that goes on behind other operations stands in each of them.
            chain = inner.find(r'chain_id="(\d+)"')
            if chain is None or chain not in chains:
                moved["ici", kind] += times * _received(kind, inner, operation is not inner)
                counts["ici", kind] += times
            chains.add(chain)
        behind = operation.find(r"kind=k(Output|Loop|Input)\b")
        if estimate and (behind or not collective):
            cycles[_part(operation, computations)] += times * int(estimate)
    if not cycles:
        raise ValueError("this program carries no estimates of cycles; only TPU programs do")
    return Program(
        {part: float(cycles[part]) for part in PARTS},
        tuple(
            Collective(kind, counts[network, kind], moved[network, kind], network)
            for network, kind in sorted(moved, reverse=True)
        ),
    )


def _computations(text: str) -> dict[str, list[_Operation]]:
    found: dict[str, list[_Operation]] = {}
    current = None
    for line in text.splitlines():
        if not line.startswith(" "):
            opened = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
            current = None
            if opened:
                current = found.setdefault("ENTRY" if opened.group(1) else opened.group(2), [])
        elif current is not None:
            parsed = re.match(r"\s*(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(", line)
            if parsed:
                name, shape, kind = parsed.groups()
                current.append(_Operation(name, kind, shape, line))
    return found


def _executed(computations, name, times) -> Iterator[tuple[_Operation, int]]:
    """Every operation of a computation, with how often it runs, loops and calls opened up."""
    for operation in computations.get(name, []):
        if operation.kind == "while":
            body, condition = (
                operation.find(r"body=%([\w.\-]+)"),
                operation.find(r"condition=%([\w.\-]+)"),
            )
            trips = _trips(operation, computations.get(condition, []))
            yield from _executed(computations, body, times * trips)
        elif operation.kind in ("call", "async-start"):
            called = operation.find(r"(?:to_apply|calls)=%([\w.\-]+)")
            yield from _executed(computations, called, times)
        else:
            yield operation, times


def _trips(loop: _Operation, condition: list[_Operation]) -> int:
    known = loop.find(r'"known_trip_count":\{"n":"(\d+)"')
    if known:
        return int(known)
    limits = [int(n) for o in condition if (n := o.find(r"constant\((\d+)\)"))]
    return max(limits, default=1)


def _collective(operation: _Operation, computations) -> tuple[str, _Operation] | None:
    """The kind of a collective, and the operation inside that is it."""
    inside = [operation]
    if operation.kind == "fusion":
        inside = computations.get(operation.find(r"calls=%([\w.\-]+)") or "", [])
    found = {o.kind.removesuffix("-start"): o for o in inside}
    kind = next((kind for kind in _COLLECTIVES if kind in found), None)
    if kind is None:
        return None
    if kind == "all-reduce" and operation.kind == "fusion":
        # A reduction and the slice of it that a device keeps are one fused operation.
        return "reduce-scatter", found[kind]
    return kind, found[kind]


def _received(kind: str, operation: _Operation, fused: bool) -> float:
    """Bytes that one device receives, in the pattern that takes least of the network."""
    line, whole = operation.line, _size(operation.shape)
    if operation.kind.endswith("-start") and kind == "all-gather":
        whole = max(_sizes(operation.shape), default=0)
    group = _group(line)
    share = (group - 1) / group
    if kind == "all-reduce":
        return 2 * whole * share
    if kind == "reduce-scatter" and not fused:
        return whole * (group - 1)
    if kind == "collective-permute":
        return whole
    return whole * share


def _between_slices(operation: _Operation) -> tuple[str, float] | None:
    """The kind of a collective between slices, which hosts do, and bytes that a device receives."""
    kind = operation.find(r'_xla_megascale_transfer_type="(\w+)"')
    if kind is None:
        return None
    # The slices and the devices of each that take part, as in {1,2}x{0:15}.
    slices = _members(operation.find(r'_xla_megascale_target="\{([\d,:]+)\}') or "1,2")
    kind, whole = kind.lower().replace("_", "-"), _size(operation.shape.partition("u32[]")[0])
    return kind, whole * (slices - 1) / slices * (2 if kind == "all-reduce" else 1)


def _members(listed: str) -> int:
    """How many numbers there are in 1,4:6."""
    ends = ([int(n) for n in each.split(":")] for each in listed.split(","))
    return sum(each[-1] - each[0] + 1 for each in ends)


def _group(line: str) -> int:
    """How many devices take part together."""
    mesh = re.search(r"replica_groups=\w+\[([^\]]*)\] \{([^}]*)\}", line)
    if mesh:
        sides = dict(re.findall(r"'(\w+)'=(\d+)", mesh.group(1)))
        return math.prod(int(sides[name]) for name in re.findall(r"'(\w+)'", mesh.group(2)))
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    if iota:
        return int(iota.group(1))
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    if listed:
        return len(listed.group(1).split(","))
    # A permutation has pairs instead. Of a large group it does not matter how large.
    return 2 if "source_target_pairs" in line else 1024


def _sizes(shape: str) -> list[int]:
    return [
        _BYTES.get(dtype, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for dtype, dims in re.findall(r"([a-z]\w*)\[([\d,]*)\]", shape)
    ]


def _size(shape: str) -> int:
    return sum(_sizes(shape))


def _part(operation: _Operation, computations) -> str:
    scope = operation.find(r'op_name="([^"]*)"') or ""
    for part, pattern in _PURPOSES:
        if pattern.search(scope):
            return part
    called = operation.find(r"calls=%([\w.\-]+)") or ""
    inside = {o.kind for o in computations.get(called, [])} | {operation.kind}
    if inside & {"convolution", "dot"}:
        return "dense"
    return "other" if inside - _MOVING else "data movement"
