"""The pixels of rows of shards, parquet files and datasets, as a reader's options ask for them."""

from collections.abc import Sequence
from pathlib import Path

from unlabel.data.images.cache import Decoded
from unlabel.data.images.kept import job_of_rows, kept
from unlabel.data.images.on_access import Encoded
from unlabel.data.options import ReadOptions
from unlabel.data.readers.index_file import settled, signature


def decoded_rows(encoded: Encoded, files: Sequence[Path], what: str, options: ReadOptions) -> Decoded:
    """The pixels of encoded images.

    Args:
        encoded: Where they lie.
        files: That they lie in.
        what: Names which images of these files they are.
        options: See `ReadOptions`.

    Raises:
        DataError: An image's file cannot be read, or the cache cannot be written.
    """
    job = job_of_rows(
        encoded,
        signature(files, what),
        options.frame(),
        settled=settled(files),
        workers=options.workers,
        log=options.log,
    )
    return kept(job, options.cache)
