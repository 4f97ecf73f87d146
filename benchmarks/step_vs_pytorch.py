"""Training steps a second: ours beside Hugging Face's, masked beside full, one size beside another.

Of pre-training, or by --mode=finetune of a classifier of 1000 classes.

  python benchmarks/step_vs_pytorch.py --size=base --batch=16 --precision=float32 --device=cpu
  python benchmarks/step_vs_pytorch.py --size=large --batch=256 --precision=bfloat16 --device=gpu
  python benchmarks/step_vs_pytorch.py --mode=finetune --batch=8
  python benchmarks/step_vs_pytorch.py --mode=masked_vs_full --batch=8
  python benchmarks/step_vs_pytorch.py --mode=sizes --size=tiny,small,base --batch=8

Each side has a process of its own, as in use, and they take turns, the first one changing from
round to round, so that whatever else the machine does hits both. A round's ratio is that of the two
blocks of steps that follow each other; the spread is over rounds. Both train on the same random
images, with AdamW, all cores and norm-pix targets. PyTorch gets its images standardised already, in
float32, its fused AdamW, and on a GPU torch.compile and autocast; ours is the step of
`mae-jax pretrain`, which also standardises. First steps (compilation) are not counted.

What is in the environment both processes get: GLIBC_TUNABLES, for instance.
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

CLASSES, SMOOTHING = 1000, 0.1
LEARNING_RATE, WEIGHT_DECAY, BETAS = 1.5e-4, 0.05, (0.9, 0.95)


class Side(NamedTuple):
    """One of the two that are compared, in the process that trains it.

    Attributes:
      name: for the table.
      run: makes so many steps, waits for the last one and returns its loss.
      flops: operations of a step, by arithmetic.
    """

    name: str
    run: Callable[[int], float]
    flops: float


class Turn(NamedTuple):
    """A block of steps: its last loss, and seconds a step by the clock and of its process."""

    loss: float
    wall: float
    cpu: float


class Remote:
    """A side seen from here: starts its process, and has it take its turns.

    Attributes:
      name: of the side.
      flops: of the side.
    """

    def __init__(self, make: Callable[[], Side], held: contextlib.ExitStack):
        context = multiprocessing.get_context("spawn")
        self._connection, given = context.Pipe()
        process = context.Process(target=_serve, args=(make, given), daemon=True)
        process.start()
        given.close()  # so that its end is noticed here
        held.callback(process.join)
        held.callback(self._connection.close)
        self.name, self.flops = self._receive()

    def run(self, steps: int) -> Turn:
        self._connection.send(steps)
        return self._receive()

    def _receive(self):
        try:
            return self._connection.recv()
        except EOFError:
            raise SystemExit(1) from None  # it has said why


def _serve(make: Callable[[], Side], connection) -> None:
    side = make()
    connection.send((side.name, side.flops))
    with contextlib.suppress(EOFError):
        while True:
            steps = connection.recv()
            wall, cpu = time.perf_counter(), time.process_time()
            loss = side.run(steps)
            seconds = (time.perf_counter() - wall, time.process_time() - cpu)
            connection.send(Turn(loss, *(s / steps for s in seconds)))


def main() -> None:
    options = _parse()
    print(f"{options.device}, {_cores()} cores", file=sys.stderr)
    results = [_compare(size, options) for size in options.size.split(",")]
    print(_table(results))
    if options.json:
        print(json.dumps(results))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = ["pytorch", "finetune", "masked_vs_full", "sizes"]
    parser.add_argument("--mode", choices=modes, default="pytorch")
    parser.add_argument("--size", help="base; or several, with commas")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of blocks")
    parser.add_argument("--steps", type=int, default=2, help="steps of a block")
    parser.add_argument("--json", action="store_true", help="print JSON too")
    options = parser.parse_args()
    several = "tiny,small,base" if options.device == "cpu" else "base,large,huge"
    options.size = options.size or (several if options.mode == "sizes" else "base")
    # For the processes of both sides. They share a GPU: neither may take all of its memory.
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return options


def _compare(size: str, options: argparse.Namespace) -> dict:
    make_ours = functools.partial(_ours, "ours", size, options)
    if options.mode == "masked_vs_full":
        name = "ours, all patches encoded"
        make_other = functools.partial(_ours, name, size, options, full=True)
    else:
        make_other = functools.partial(_pytorch, size, options)
    with contextlib.ExitStack() as held:
        ours, other = Remote(make_ours, held), Remote(make_other, held)
        for side in (ours, other):
            first = side.run(1)
            print(
                f"{size}: {side.name}: first step {first.wall:.0f} s, loss {first.loss:.3f}",
                file=sys.stderr,
            )
            side.run(1)
        walls, cpus = {ours: [], other: []}, {ours: [], other: []}
        for i in range(options.rounds):
            for side in (ours, other) if i % 2 == 0 else (other, ours):
                turn = side.run(options.steps)
                walls[side].append(turn.wall)
                cpus[side].append(turn.cpu)
            print(
                f"{size}: round {i + 1} of {options.rounds}: "
                + ", ".join(f"{side.name} {walls[side][-1]:.3f} s" for side in walls),
                file=sys.stderr,
            )
    result = {"size": size, "batch": options.batch, "precision": options.precision, "sides": []}
    for side in walls:
        seconds = statistics.median(walls[side])
        result["sides"].append(
            {
                "name": side.name,
                "step_seconds": seconds,
                "images_per_second": options.batch / seconds,
                "cpu_seconds": statistics.median(cpus[side]),
                "tflops_per_second": side.flops / seconds / 1e12,
            }
        )
    for name, times in (("ratio", walls), ("cpu_ratio", cpus)):
        ratios = [b / a for a, b in zip(times[ours], times[other], strict=True)]
        result[name] = [min(ratios), statistics.median(ratios), max(ratios)]
    return result


def _images(options: argparse.Namespace):
    import numpy as np

    shape = (options.batch, options.image_size, options.image_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _labels(options: argparse.Namespace):
    import numpy as np

    return np.random.default_rng(1).integers(0, CLASSES, options.batch).astype(np.int32)


def _operations(dimensions, options: argparse.Namespace, full: bool = False) -> float:
    """Of a step, by arithmetic."""
    from mae_jax.models import flops

    if options.mode == "finetune":
        one = flops.classifier_flops(dimensions, CLASSES)
    else:
        one = flops.training_flops(dimensions, 0.75, mask_tokens_in_encoder=full)
    return one * options.batch


def _ours(name: str, size: str, options: argparse.Namespace, full: bool = False) -> Side:
    import jax
    import numpy as np

    from mae_jax.config import default_config
    from mae_jax.parallel import Layout, Split
    from mae_jax.train import host_memory, state
    from mae_jax.train.classify import Classify
    from mae_jax.train.objectives import Reconstruct
    from mae_jax.train.optimizer import Recipe
    from mae_jax.train.step import put, train_step

    host_memory.keep()  # as mae-jax does
    config = default_config()
    config.model.size, config.model.dtype = size, options.precision
    config.model.image_size = (options.image_size,)
    config.model.mask_tokens_in_encoder = full
    config.data.batch_size = options.batch
    config.train.base_lr = LEARNING_RATE * 256 / options.batch
    config.train.weight_decay = WEIGHT_DECAY
    config.train.beta1, config.train.beta2 = BETAS
    if options.mode == "finetune":
        config.train.objective, config.train.label_smoothing = "classify", SMOOTHING
        objective = Classify.from_config(config, CLASSES)
    else:
        objective = Reconstruct.from_config(config)
    recipe = Recipe.from_config(
        config,
        steps=10**6,
        steps_per_epoch=1,
        undecayed=objective.undecayed,
        depth=objective.dimensions.depth,
    )
    layout = Layout.of(Split(1, 1, 1, False), jax.devices()[:1])
    images = _images(options)
    given = {"image": images, "label": _labels(options)}
    batch = put(given, layout, len(images))
    current = [state.create(objective, recipe, 0, layout)]

    def run(steps):
        for _ in range(steps):
            current[0], numbers = train_step(
                current[0],
                batch,
                np.uint32(0),
                objective=objective,
                recipe=recipe,
                layout=layout,
            )
        # The whole state: a loss is there before the update is.
        return float(jax.block_until_ready((current[0], numbers))[1]["loss"])

    operations = _operations(objective.dimensions, options, full)
    return Side(f"{name}, jax {jax.__version__}", run, operations)


def _pytorch(size: str, options: argparse.Namespace) -> Side:
    # Not needed, and does not import where it was built for another torch.
    sys.modules.setdefault("torchvision", None)
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"this mode needs torch and transformers: {error}") from None

    from mae_jax.models import sizes
    from mae_jax.pixels import IMAGENET_MEAN, IMAGENET_STD

    torch.set_num_threads(_cores())
    torch.manual_seed(0)
    d = sizes.resolve(size, image_size=options.image_size)
    model = vit(d) if options.mode == "finetune" else vitmae(d)
    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    model = model.to(device).train()
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": rest, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = torch.from_numpy(_images(options)).permute(0, 3, 1, 2).float() / 255
    pixels = ((pixels - mean) / std).contiguous().to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    forward = torch.compile(model) if options.device == "gpu" else model
    labels = torch.from_numpy(_labels(options)).long().to(device)

    def loss_of():
        if options.mode != "finetune":
            return forward(pixel_values=pixels).loss
        logits = forward(pixel_values=pixels).logits
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)

    def run(steps):
        for _ in range(steps):
            with autocast:
                loss = loss_of()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())

    operations = _operations(d, options)
    return Side(f"transformers on torch {torch.__version__}", run, operations)


def _encoder(d):
    """An encoder's dimensions, as transformers calls them."""
    return dict(
        image_size=d.image_size[0],
        patch_size=d.patch_size[0],
        hidden_size=d.width,
        num_hidden_layers=d.depth,
        num_attention_heads=d.heads,
        intermediate_size=4 * d.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def vit(d):
    """transformers' ViTForImageClassification with fresh parameters, of the same dimensions."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**_encoder(d), num_labels=CLASSES))


def vitmae(d):
    """transformers' ViTMAEForPreTraining with fresh parameters.

    It leaves the tokens and the fixed positions of a fresh model at zero, 5.23 all and 4.57 those
    of the decoder; here they are as published.

    Args:
      d: its dimensions, of `mae_jax.models.sizes`.
    """
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    from mae_jax.models import patches

    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            **_encoder(d),
            decoder_hidden_size=d.decoder_width,
            decoder_num_hidden_layers=d.decoder_depth,
            decoder_num_attention_heads=d.decoder_heads,
            decoder_intermediate_size=4 * d.decoder_width,
            mask_ratio=0.75,
            norm_pix_loss=True,
        )
    )
    embeddings, decoder = model.vit.embeddings, model.decoder
    with torch.no_grad():
        for table, token in (
            (embeddings.position_embeddings, embeddings.cls_token),
            (decoder.decoder_pos_embed, decoder.mask_token),
        ):
            table[0, 0] = 0
            table[0, 1:] = torch.from_numpy(patches.sincos_positions(d.grid, table.shape[-1]))
            torch.nn.init.normal_(token, std=0.02)
    return model


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _table(results: list[dict]) -> str:
    lines = [("size", "batch", "", "s a step", "images/s", "TFLOP/s", "CPU s a step")]
    for result in results:
        for side in result["sides"]:
            lines.append(
                (
                    result["size"],
                    str(result["batch"]),
                    side["name"],
                    f"{side['step_seconds']:.3f}",
                    f"{side['images_per_second']:.2f}",
                    f"{side['tflops_per_second']:.3f}",
                    f"{side['cpu_seconds']:.3f}",
                )
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    for result in results:
        first, second = (side["name"] for side in result["sides"])
        text.append(
            f"{result['size']}: images/s of {first} over {second}: "
            + "median {1:.2f}, from {0:.2f} to {2:.2f} over rounds".format(*result["ratio"])
            + "; by CPU time {1:.2f}, from {0:.2f} to {2:.2f}".format(*result["cpu_ratio"])
        )
    return "\n".join(text)


if __name__ == "__main__":
    main()
