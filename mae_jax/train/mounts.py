"""What kind of file system a folder lies on."""

import os
import re
from pathlib import Path

# Of buckets; whoever holds a lock there is known to its own machine alone.
_BUCKETS = ("s3fs", "gcsfuse", "rclone", "goofys", "geesefs", "mountpoint-s3", "blobfuse2")


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
