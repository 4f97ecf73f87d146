"""What accelerators can do, by data sheet: one row per TPU generation, a few GPUs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device: a chip, or one core where JAX shows the cores.

    Attributes:
      kind: what JAX calls the device.
      flops: peak bfloat16 FLOP/s.
      hbm: bytes/s of its memory.
      ici: bytes/s it receives from its neighbours, all links together.
      dcn: bytes/s it receives from other slices, its share of its host's; None where slices cannot
        be joined.
      clock: cycles/s, that its compiler's estimates count in.
      usable: bytes of memory a program may use, as the compiler says.
      per_host: devices of one host of a slice of several hosts.
    """

    kind: str
    flops: float
    hbm: float
    ici: float
    dcn: float | None
    clock: float
    usable: float
    per_host: int


# Google's figures per chip (cloud.google.com/tpu/docs, one page per version), divided by the
# devices JAX shows of it; a link carries half of the "bidirectional" figure each way. For v3 there
# is no official figure of the links: four, taken as 100 GB/s each way; nor for v4 of the network
# between slices: taken as that of v5p. v3's peak is 123 TFLOP/s on Google's page and 140 in JAX's
# table, and the lower one is used. The clock is what makes the peak of the matrix units:
# flops / (2 * units * side^2).
_GIB = 2.0**30
TPUS = {
    "v3": Chip("TPU v3", 61.5e12, 450e9, 200e9, None, 940e6, 15.48 * _GIB, 8),
    "v4": Chip("TPU v4", 275e12, 1200e9, 270e9, 6.25e9, 1050e6, 30.75 * _GIB, 4),
    "v5e": Chip("TPU v5 lite", 197e12, 819e9, 200e9, 3.125e9, 1500e6, 15.75 * _GIB, 4),
    "v5p": Chip("TPU v5", 459e12, 2765e9, 600e9, 6.25e9, 1750e6, 95.74 * _GIB, 4),
    "v6e": Chip("TPU v6 lite", 918e12, 1638e9, 400e9, 12.5e9, 1750e6, 31.25 * _GIB, 4),
}

# Peak of dense bfloat16 products, FLOP/s, by what `device_kind` contains (NVIDIA's data sheets).
_GPUS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


def peak(device_kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device by its `device_kind`; None where it is not known."""
    for chip in TPUS.values():
        if chip.kind == device_kind:
            return chip.flops
    return next((flops for name, flops in _GPUS.items() if name in device_kind), None)
