"""The errors a user can meet, and the exit code of each.

    StjError                     1
    ├── ConfigError              2   a key, its value, its unit, the remedy
    ├── SourceError              2   a file or data set that cannot be read as it was named
    ├── ModelError               2   a model directory that is missing or cannot be used
    ├── ArtifactError            1   a directory of another config, a torn or a missing artifact
    ├── CapacityError            1   more machines asked than there are or can be
    ├── PassFailed               1   too many rows failed, or the engine did not come back
    ├── TrainingFailed           1   a rank ended, or the loss was not finite
    ├── Stopped                143   told to stop, and everything is kept to go on from
    ├── EngineDied               1   a process of the engine is gone; in a pass, Ray starts it again
    └── RequestFailed            –   one request to a model failed: its row records it
        └── PromptTooLong        –   the prompt leaves no room for an answer: its row is dropped with this reason

An expected error prints as one or two lines, without a traceback. Every error takes only its message, so that Ray can
pickle it between processes.
"""


class StjError(Exception):
    """An expected failure, told to the user in one or two lines."""

    exit_code = 1


class ConfigError(StjError):
    """The config or the command line cannot be used as given."""

    exit_code = 2


class SourceError(StjError):
    """A source of instructions or pairs cannot be read as it was named."""

    exit_code = 2


class ModelError(StjError):
    """A model cannot be found or lacks what a judge needs."""

    exit_code = 2


class ArtifactError(StjError):
    """An artifact is missing, unfinished, or made under another config."""


class CapacityError(StjError):
    """The cluster has not, and will not get, the machines that were asked for."""


class PassFailed(StjError):
    """A pass ended without a usable result."""


class TrainingFailed(StjError):
    """Training ended without a model."""


class Stopped(StjError):
    """The run was told to stop, and did; the same command goes on with it."""

    exit_code = 143


class EngineDied(StjError):
    """A worker process of the engine has ended, and with it all requests."""


class RequestFailed(StjError):
    """One request to a model failed; the pass records it in its row and goes on."""


class PromptTooLong(RequestFailed):
    """The prompt leaves no room for an answer in the model's context."""
