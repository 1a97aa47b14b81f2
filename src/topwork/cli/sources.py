"""The option of every command that takes pictures: how far a list that it is given may reach."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from topwork.images import ImageSource

AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="A list may name pictures at s3, gs and http(s) addresses.")
]


def given(source: str, allow_remote: bool) -> "str | ImageSource":
    """The source as it was typed, or opened already where what it lists may be far away."""
    if not allow_remote:
        return source
    from topwork.images import ImageSource
    from topwork.progress import for_stream

    return ImageSource.open(source, progress=for_stream(), allow_remote=True)
