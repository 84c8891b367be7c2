"""Files inside the installed package, as locations name them: `package://mini/seed_model`, and `conf:mini` for config files."""

import difflib
from importlib.resources import files
from pathlib import Path

from stj.errors import ConfigError

PACKAGE_SCHEME = "package://"
CONF_SCHEME = "conf:"
CONF_SUFFIXES = (".yaml", ".yml")


def package_path(location: str) -> str:
    """The path of a location in the package; any other location unchanged."""
    if not location.startswith(PACKAGE_SCHEME):
        return location
    return str(files("stj").joinpath(location.removeprefix(PACKAGE_SCHEME)))


def names_conf(word: str) -> bool:
    """Whether a word names a config file: by a path to one, or as `conf:mini`."""
    return word.startswith(CONF_SCHEME) or word.endswith(CONF_SUFFIXES)


def conf_path(word: str | Path) -> Path:
    """The path of a config file: of `conf:mini` that in the package, of any other word the path that it is.

    Raises ConfigError for an unknown name, which lists what there is.
    """
    text = str(word)
    if not text.startswith(CONF_SCHEME):
        return Path(text)
    name = text.removeprefix(CONF_SCHEME).removesuffix(CONF_SUFFIXES[0])
    if name in (known := packed_confs()):
        return _conf_folder() / f"{name}{CONF_SUFFIXES[0]}"
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {CONF_SCHEME}{close[0]}? " if close else ""
    raise ConfigError(f"{text}: no such config; {guess}There are {', '.join(known)}")


def packed_confs() -> list[str]:
    """Names of the config files in the package, as they stand after `conf:`."""
    root = _conf_folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob(f"*{CONF_SUFFIXES[0]}"))


def _conf_folder() -> Path:
    return Path(str(files("stj").joinpath("conf")))
