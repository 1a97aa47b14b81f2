"""Every error topwork raises on purpose.

::

    TopworkError
    ├── UsageError            a wrong option, name or value in the call      (exit code 2)
    │   └── MissingExtraError a part of topwork that is not installed
    ├── SourceError           an image source that cannot be used as it is
    ├── ImageError            one picture that cannot be read
    ├── BackboneError         a network or its weights
    ├── CacheError            the feature cache: a corrupt entry, a full disk
    ├── ShortageError         memory or open files ran out, which is no fault of a picture
    ├── TrainingError         training that cannot go on: a loss that is no number, no memory left
    └── ModelError            a model folder: missing, tampered, too new

A message is one sentence for a person: what was expected, what came, what to do next. `TopworkWarning` is no error.
"""


class TopworkError(Exception):
    """Base of all errors that topwork raises on purpose."""


class UsageError(TopworkError):
    """The call is wrong: an unknown option, name or value."""


class MissingExtraError(UsageError):
    """A part of topwork that needs a package which is not installed."""


class SourceError(TopworkError):
    """An image source that cannot be used as it is."""


class ImageError(TopworkError):
    """One picture that cannot be read; the message is the reason shown to the user."""


class BackboneError(TopworkError):
    """A network or its weights cannot be used."""


class CacheError(TopworkError):
    """The feature cache cannot be read or written."""


class ShortageError(TopworkError):
    """Memory or open files ran out: the run ends, since pictures would be left out that are whole."""


class TrainingError(TopworkError):
    """Training cannot go on: the loss is no longer a number, or memory ran out."""


class ModelError(TopworkError):
    """A model folder is missing, damaged, tampered with or too new."""


class TopworkWarning(UserWarning):
    """Something that a user should know, though the work goes on; the command prints it on stderr."""
