"""The errors a user can meet, and the exit code of each.

    StjError                     1
    ├── ConfigError              2   a wrong setting: its key, value, unit and remedy
    ├── SourceError              2   a file or data set that cannot be read
    ├── ModelError               2   a model that is missing or cannot be used
    ├── CheckFailed              2   what the check before a start refuses, one line each
    ├── EndpointError            2   an API that would refuse every request: a wrong key, name or address
    ├── ArtifactError            1   an artifact that is damaged, or made with other settings
    │   └── NoArtifact           2   a place that holds no artifact, evaluation or run, or does not exist
    ├── StorageFailed            1   a disk or store that takes no more: full, over its quota, read-only, or not allowed
    ├── CapacityError            1   the cluster lacks the machines that the run asks for
    ├── PassFailed               1   too many rows failed, or the engine did not come back
    ├── TrainingFailed           1   a rank died, or the loss was not finite
    ├── Stopped                143   the run was asked to stop; the same command resumes it
    ├── EngineDied               1   a process of the engine died, or it was closed; in a pass, Ray starts it again
    └── RequestFailed            –   a request to a model failed: its row records the error
        └── PromptTooLong        –   the prompt leaves no room for an answer: its row is dropped with this reason

An expected error prints as one or two lines, without a traceback. Every error takes only its message, because Ray must
pickle it between processes.
"""


class StjError(Exception):
    """An expected failure; the user sees one or two lines."""

    exit_code = 1


class ConfigError(StjError):
    """The config or the command line has a wrong or missing setting."""

    exit_code = 2


class SourceError(StjError):
    """A source of instructions or pairs cannot be read."""

    exit_code = 2


class ModelError(StjError):
    """A model is missing, or lacks something that a judge needs."""

    exit_code = 2


class CheckFailed(StjError):
    """The check before a start refuses the run; the message has one line for each refusal."""

    exit_code = 2


class EndpointError(StjError):
    """The API of a model refuses not one request but all: the key, the model's name or the address is wrong."""

    exit_code = 2


class ArtifactError(StjError):
    """An artifact is missing, unfinished, damaged, or made with other settings."""


class NoArtifact(ArtifactError):
    """The place that the user names holds nothing to read."""

    exit_code = 2


class StorageFailed(StjError):
    """A disk or store takes no more until a person acts: trying again cannot help."""


class CapacityError(StjError):
    """The cluster lacks the machines that the run asks for, and will not get them."""


class PassFailed(StjError):
    """A pass ended without a usable result."""


class TrainingFailed(StjError):
    """Training ended without a model."""


class Stopped(StjError):
    """The run stopped because it was asked to; the same command resumes it."""

    exit_code = 143


class EngineDied(StjError):
    """A worker process of the engine died, or the engine was closed, and all requests with it."""


class RequestFailed(StjError):
    """One request to a model failed; its row records the error and the pass continues."""


class PromptTooLong(RequestFailed):
    """The prompt leaves no room for an answer in the model's context."""
