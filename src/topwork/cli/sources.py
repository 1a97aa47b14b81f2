"""Options of commands that take pictures: how far a list that is given may reach, how large a picture may be."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from topwork.images import ImageSource
    from topwork.model import Model

AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="A list may name pictures at s3, gs and http(s) addresses.")
]


MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", metavar="N", help="Read pictures of up to N pixels; else the model's limit."),
]


def given(source: str, allow_remote: bool) -> "str | ImageSource":
    """The source as it was typed, or opened already where what it lists may be far away."""
    if not allow_remote:
        return source
    from topwork.images import ImageSource
    from topwork.progress import for_stream

    return ImageSource.open(source, progress=for_stream(), allow_remote=True)


def model_for(path: str, max_pixels: int | None) -> "Model":
    """The model at ``path``, with another limit on pixels if one is given."""
    from dataclasses import replace

    from topwork.model import load

    model = load(path)
    if max_pixels is not None:
        model.decoding = replace(model.decoding, max_pixels=max_pixels)
    return model
