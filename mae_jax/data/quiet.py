"""Keeping TensorFlow, which is a writer of files here, from talking about itself."""

import os


def quiet_tensorflow() -> None:
    """Before TensorFlow is imported: no lines on its start and on the processor, only errors."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Told at a level that is always printed. Nothing here is computed by TensorFlow.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
