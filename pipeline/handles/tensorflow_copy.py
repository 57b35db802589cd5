"""Copies what only TensorFlow can read: `python -m pipeline.handles.tensorflow_copy SOURCE TARGET`.

A process of its own, since the launcher imports no TensorFlow. Not `tensorflow_hub.resolve`: it leaves a `gs://` folder
where it is, for each worker to read again, and waits ten minutes for a lock that a killed process has left.
"""

from __future__ import annotations

import os
import sys

CHUNK = 8 << 20


def copy(source: str, target: str) -> None:
    """Copy a file, or a folder with all that is in it, to the new local path `target`.

    Raises:
        tensorflow.errors.OpError: it cannot be read.
    """
    import tensorflow as tf

    files = tf.io.gfile
    if not files.isdir(source):
        _copy_file(source, target)
        return
    for folder, _, names in files.walk(source):
        below = os.path.join(target, os.path.relpath(folder.rstrip("/"), source.rstrip("/")))
        os.makedirs(below, exist_ok=True)
        for name in names:
            _copy_file(f"{folder.rstrip('/')}/{name}", os.path.join(below, name))


def _copy_file(source: str, target: str) -> None:
    import tensorflow as tf

    with tf.io.gfile.GFile(source, "rb") as reader, open(target, "xb") as writer:
        while block := reader.read(CHUNK):
            writer.write(block)


def main(arguments: list[str]) -> int:
    """Copy; on failure the last line on stderr is the reason."""
    import tensorflow as tf

    try:
        copy(*arguments)
    except (tf.errors.OpError, OSError) as error:
        lines = [line for line in str(getattr(error, "message", None) or error).splitlines() if line.strip()]
        print(lines[0].strip() if lines else type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
