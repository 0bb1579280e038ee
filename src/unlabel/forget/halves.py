"""The two halves of a request as data and columns: what is to be forgotten, and what must stay.

Images are never removed. A request for whole columns splits the label columns; a request for single
annotations (`Request.rows`) splits the entries of those columns by image.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unlabel.core.request import Request
from unlabel.data.dataset import Dataset


class Part(NamedTuple):
    """Images, and the label columns that count in them."""

    data: Dataset
    columns: tuple[int, ...]


def forget_part(data: Dataset, request: Request) -> Part:
    """The annotations to forget: their columns, on all images or on the request's rows only."""
    if request.rows:
        data = data.take(np.isin(data.rows, np.array(request.rows)))
    return Part(data, request.columns)


def retain_part(data: Dataset, request: Request) -> Part:
    """The annotations to keep, and the images that have any (see `Dataset.answerable`).

    Of the columns to forget, a request for rows keeps the annotations of all other images.
    """
    if request.rows:
        target = data.target.copy()
        listed = np.isin(data.rows, np.array(request.rows))
        for column in request.columns:
            target[listed, column] = -1
        data = replace(data, target=target)
    return Part(data.answerable(request.retained_columns), request.retained_columns)


def whole_part(data: Dataset, request: Request) -> Part:
    """Everything that the model was trained on: all columns but those forgotten by earlier requests."""
    earlier = {request.labels.index(name) for name in request.forgotten}
    return Part(data, tuple(column for column in range(len(request.labels)) if column not in earlier))
