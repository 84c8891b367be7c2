"""Files inside the installed package, as locations name them: `package://mini/seed_model`."""

from importlib.resources import files

PACKAGE_SCHEME = "package://"


def package_path(location: str) -> str:
    """The path of a location in the package; any other location unchanged."""
    if not location.startswith(PACKAGE_SCHEME):
        return location
    return str(files("stj").joinpath(location.removeprefix(PACKAGE_SCHEME)))
