"""Reads files that may be anything, one after the other, in a process that may die of it.

Every line of stdin is a reader's name and a path; every line of stdout says what became of it.
"""

import faulthandler
import json
import os
import re
import resource
import sys
import traceback
from pathlib import Path

SECONDS = 60  # for what takes one: machines are busy
MEMORY = 2 * 2**30  # bytes more than the process has
# What nothing that reads a file has to do, by the names of Python's audit events.
_DEEDS = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
    "socket.connect", "os.mkdir", "os.remove", "os.rename", "shutil.rmtree", "pickle.find_class",
}  # fmt: skip
done: list[str] = []
_watching = False


def _watch(event, arguments):
    if not _watching:
        return
    if event in _DEEDS:
        done.append(f"{event}{arguments!r}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE:
        done.append(f"open for writing: {arguments[0]!r}")


def weights(path):
    from mae_jax.weights import read

    found = read.read(path, heads=4, decoder_heads=2, norm_pix=True)
    found.settings()
    found.encoder()


def images(path):
    from mae_jax.data import images, prepare
    from mae_jax.errors import BrokenRecord

    data, refused, forms = Path(path).read_bytes(), [], [
        images.Form(3), images.Form(1, floats=True), images.Form(5), None,
    ]  # fmt: skip
    for form in forms:
        try:
            if form is None:
                prepare.check(data, "x")
                continue
            image = images.open_image(data, form, "x")
            image.views([(0, 0, image.width, image.height)], (8, 8))
        except BrokenRecord as error:
            refused.append(error)
    if len(refused) == len(forms):
        raise refused[0]


def windows(path):
    from mae_jax.data import images, kept, windows
    from mae_jax.data.folder import FolderSource
    from mae_jax.errors import BrokenRecord

    kept.write = lambda *_: None
    source = windows.Windows(
        FolderSource(path, "all", unread=True), 32, background=(0.0, 0.0), share=0.9
    )
    refused = []
    for index in range(min(len(source), 20)):
        try:
            record = source[index]
            image = images.open_image(record.data, images.Form(3), record.name)
            image.views([(0, 0, image.width, image.height)], (8, 8), around=True)
        except BrokenRecord as error:
            refused.append(error)
    if refused:
        raise refused[0]


def table(path):
    from mae_jax.data import folder, tables

    source = folder.FolderSource(str(Path(path).with_name("photos")), "all")
    tables.Labelled(source, tables.read(path, source)).fingerprint()


def folder(path):
    from mae_jax.data import folder, kept

    kept.write = lambda *_: None  # an index of what was read, in the user's cache
    _all_of(folder.FolderSource(path, "all"))


def tfds(path):
    import matplotlib.font_manager  # noqa: F401 - with some errors tfds does, and that has a cache

    from mae_jax.data import tfds_sets

    source = tfds_sets.TfdsSource("handmade", "train", path)
    _all_of(source)
    source.labels()


def _all_of(source):
    source.fingerprint()
    for index in range(min(len(source), 100)):
        source[index]


def features(path):
    from mae_jax.errors import UsageError
    from mae_jax.inference import embedded

    if embedded.identity(Path(path)) is None:
        raise UsageError("is of something else")
    embedded.read(Path(path))


def run(path):
    from mae_jax.train import metrics, workdir
    from mae_jax.train.checkpoints import checkpoint
    from mae_jax.weights import read

    workdir.read_config(path)
    metrics.read(path)
    checkpoint.read_model(path)
    read.read(path).settings()


def outcome(reader, path):
    """What becomes of reading: `read`; `refused`, with what is said; or `raised`."""
    from mae_jax import errors

    known = (
        errors.UsageError, errors.BrokenRecord, errors.NoUsableCheckpoint, errors.Diverged,
        errors.NoSpace, errors.StorageFaltered,
    )  # fmt: skip
    try:
        reader(path)
    except known as error:
        return {"outcome": "refused", "text": str(error), "memory": _lacked_memory(error)}
    except Exception:
        return {"outcome": "raised", "text": traceback.format_exc()}
    return {"outcome": "read"}


def _lacked_memory(error):
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit_memory():
    pages = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (1024 * pages + MEMORY, hard))


def main():
    global _watching
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries talk
    sys.dont_write_bytecode = True  # of what a reader imports: files that it writes are counted
    sys.addaudithook(_watch)
    readers = {
        f.__name__: f for f in (weights, images, windows, table, folder, tfds, features, run)
    }
    for line in sys.stdin:
        name, path, sound = json.loads(line)
        done.clear()
        if not sound:
            _limit_memory()
        faulthandler.dump_traceback_later(SECONDS if not sound else 600, exit=True)
        _watching = not sound  # what a reader imports, it imports with the first file
        answer = outcome(readers[name], path)
        _watching = False
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print(json.dumps(answer | {"did": done[:9]}), file=answers, flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    main()
