"""The errors that people see. Level 0.

Each is also the built-in that a Python caller would expect, and carries the exit code of the
command line: 2 usage, 3 input unreadable, 4 does not fit, 5 some tiles or files failed,
6 refused to resume, 130 cancelled. A message is one sentence: what is wrong and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class DigsegError(Exception):
    """Base of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(DigsegError, ValueError):
    """The request makes no sense as given (a flag, a combination, a value)."""

    exit_code = 2


class PromptError(UsageError):
    """No prompt, an empty prompt, or two equal prompts."""


class BandError(UsageError, IndexError):
    """A band that the raster does not have."""


class OutputError(UsageError, OSError):
    """The output can't be written there."""


class OutputExistsError(OutputError, FileExistsError):
    """The output is there already."""


class BusyError(OutputError):
    """Another run is writing there."""


class MissingExtraError(DigsegError, ImportError):
    """A feature needs an optional package."""

    exit_code = 2


class InputError(DigsegError, OSError):
    """The input can't be read."""

    exit_code = 3


class InputNotFoundError(InputError, FileNotFoundError):
    """There is no such input."""


class UnsupportedInputError(InputError, ValueError):
    """The file is of a kind, or holds something, that no reader takes."""


class CorruptInputError(InputError, ValueError):
    """The file is damaged: truncated, inconsistent, or its header lies."""


class ModelError(DigsegError, ValueError):
    """The model folder is incomplete, unsafe or of an unknown kind."""

    exit_code = 3


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no such model here."""


class DatasetError(DigsegError, ValueError):
    """Training or evaluation data are broken: the message names the file and the value."""

    exit_code = 3


class DoesNotFitError(DigsegError, MemoryError):
    """The memory or the disk that was allowed is too small."""

    exit_code = 4


class TilesFailedError(DigsegError, RuntimeError):
    """The run ended, but some tiles (or files of a batch) failed."""

    exit_code = 5


class ResumeError(DigsegError, RuntimeError):
    """The unfinished run does not match what was asked for now."""

    exit_code = 6


class VerificationError(DigsegError, ValueError):
    """An output does not match its input."""

    exit_code = 5


class Cancelled(DigsegError):  # noqa: N818 - a signal like KeyboardInterrupt, no fault
    """The person stopped the run."""

    exit_code = 130
