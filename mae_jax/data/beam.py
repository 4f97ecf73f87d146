"""Shards made by Apache Beam, on any of its runners, instead of by processes of one machine."""

from collections.abc import Iterator, Sequence
from typing import Any

from mae_jax.data.prepare import Maker, Shard
from mae_jax.errors import UsageError


def runner(options: str):
    """What makes all shards, for `prepare(run=...)`.

    Args:
      options: Beam's, as on its command line, such as "--runner=DirectRunner". Its workers must
        see the folder of images and `out` by the same paths, and have mae_jax installed.

    Raises:
      UsageError: Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UsageError(
            "--beam needs Apache Beam; pip install 'mae_jax[beam]', in an environment of its own"
        ) from None

    def run(maker: Maker, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
        with beam.Pipeline(options=PipelineOptions(options.split())) as pipeline:
            # What is made lies beside the shards, where it is read back: it need not come here.
            _ = (
                pipeline
                | beam.Create(list(shards))
                | beam.Reshuffle()
                | beam.Map(lambda shard: maker(shard)["file"])
            )
        yield from map(maker, shards)  # all made by now: their entries are read

    return run
