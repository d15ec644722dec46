"""The errors a user can meet. Each names the place, what was found, what was expected and what to do."""

from __future__ import annotations

from typing import TypeVar

Error = TypeVar("Error", bound="DistSoftmaxError")


class DistSoftmaxError(Exception):
    """Base of every error this package raises on purpose.

    Attributes
    ----------
    exit_status : int
        What the command exits with.
    agreed : bool
        Whether every rank is known to raise it together, so that each may leave on its own.
    node : str
        The node that met it, where the job runs on several.
    """

    exit_status = 1
    agreed = False
    node = ""

    def on_all_ranks(self: Error) -> Error:
        """Mark the error as one that every rank raises at this place, and return it."""
        self.agreed = True
        return self


class InputError(DistSoftmaxError):
    """The data, the options or the files given cannot be used as they are."""

    exit_status = 2


class InvalidArgument(InputError, ValueError):
    """An argument of a call from Python cannot be used as it is."""


class DamagedFile(InputError):
    """A file of our own cannot be read, or its bytes are not the ones that were written."""


class CoreError(DistSoftmaxError):
    """The compiled core cannot be built, loaded or run here, or is not the one that the Python beside it expects."""

    exit_status = 2


class ClusterError(DistSoftmaxError):
    """The processes of a job cannot work together."""

    exit_status = 2


class RanksLost(DistSoftmaxError):
    """Processes of the job have died, and the others know it. Training goes on without them."""


class Interrupted(DistSoftmaxError):
    """A signal has asked the process to end before there was anything to save."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try again later


class OutputError(DistSoftmaxError):
    """A result could not be written."""


class Diverged(DistSoftmaxError):
    """The objective left the finite numbers."""


class ReplicaMismatch(DistSoftmaxError):
    """The replicated parameters are not equal on all ranks."""
