"""The task of seeing as a larger encoder does, on images without labels."""

import dataclasses

import jax
from flax import nnx

from mae_jax.models import flops
from mae_jax.models.fast import ways
from mae_jax.models.student import Student
from mae_jax.pixels import Pixels
from mae_jax.train import teacher as teacher_lib
from mae_jax.train.objectives import Batch, Objective, encoder_arguments


@dataclasses.dataclass(frozen=True)
class Distill(Objective):
    """Predict the teacher's tokens of an image, all of which the student sees."""

    @classmethod
    def from_config(cls, config, teacher: teacher_lib.Teacher) -> "Distill":
        """As a config says."""
        arguments = encoder_arguments(config)
        both = teacher.class_token and bool(arguments["class_token"])
        arguments |= dict(values=teacher.width, class_taught=both)
        return cls(
            tuple(sorted(arguments.items())),
            Pixels.from_config(config),
            config.model.attention,
            dataclasses.replace(teacher, class_token=both),
        )

    @property
    def flops(self) -> int:
        given = dict(self.arguments)
        d, token = self.dimensions, given["class_token"]
        return flops.student_flops(d, given["values"], class_token=token) + self.taught_flops

    def create(self, rngs: nnx.Rngs, attention: ways.Way = ways.PLAIN) -> Student:
        return Student(**dict(self.arguments), attention=attention, rngs=rngs)

    def loss(self, model: Student, batch: Batch) -> jax.Array:
        return self._losses(model, batch).mean()

    def measure(self, model: Student, batch: Batch) -> Batch:
        return {"loss": self._losses(model, batch)}

    def _losses(self, model, batch):
        images = self.pixels.standardise(batch["image"])
        return model.losses(images, batch[teacher_lib.PATCHES], batch.get(teacher_lib.CLASS))
