"""What kind of file system a folder lies on, and whether it keeps what checkpoints need."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from mae_jax.errors import UsageError

# Of buckets; whoever holds a lock there is known to its own machine alone.
_BUCKETS = ("s3fs", "gcsfuse", "rclone", "goofys", "geesefs", "mountpoint-s3", "blobfuse2")
_FILES = 4
# Seen with rclone 1.60: now and then, too seldom for a trial to show it.
KNOWN_TO_LOSE = {
    "rclone": "; and it loses files of a folder that is renamed while they are on their way, as "
    "those of a checkpoint are: mount it with s3fs or gcsfuse instead"
}


def bucket(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The program that shows a bucket as the folder, where it is one that is known.

    Args:
      folder: an absolute path, which may not be there yet.
      mounts: what the system says of what is mounted.
    """
    try:
        lines = mounts.read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    place, kind = os.path.realpath(folder), ""
    longest = 0
    for line in lines:
        _, point, named, *_ = line.split(" ")
        # Blanks and backslashes are written as octal numbers.
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found.group(1), 8)), point)
        if os.path.commonpath([place, point]) == point and len(point) >= longest:
            longest, kind = len(point), named
    program = kind.removeprefix("fuse.")
    return program if program in _BUCKETS else None


def check_renames(folder: Path, program: str) -> None:
    """Renames a folder of some files, as a checkpoint's is when it is whole, and looks for them.

    Buckets know no folders: a mount copies what is in one, or refuses, or loses what is on its way.

    Args:
      folder: that can be written.
      program: that mounts it.

    Raises:
      UsageError: it cannot be done, or files are lost.
    """
    names = [str(number) for number in range(_FILES)]
    trial = Path(tempfile.mkdtemp(prefix=".trial-", dir=folder))
    try:
        (trial / "before").mkdir()
        for name in names:
            (trial / "before" / name).write_text(name)
        (trial / "before").rename(trial / "after")
        lost = [name for name in names if not (trial / "after" / name).is_file()]
        why = f"loses {len(lost)} of {_FILES} files of a folder that is renamed" if lost else ""
    except OSError as error:
        why = f"does not rename folders ({error.strerror or error})"
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if why:
        raise UsageError(
            f"work folder {str(folder)!r} lies in a bucket that {program} mounts, which {why}, and "
            "so would lose checkpoints; mount it with s3fs, or gcsfuse and --rename-dir-limit=1000"
        )
