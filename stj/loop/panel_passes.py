"""In which pass a member of the panel judges: one with its weights that is still to be made, else a pass of its own.

Should a changed panel make a pass stale? Opinions are in the key of the pass that holds them, so it would. The first pass may
make the pairs too, which cost the most, and the training may rest on its judgments. None of these depends on an opinion. So a
pass keeps the panel that it was begun with, if nothing else in its key differs:

    a member that came later    judges in a pass of its own, with the same weights; those that came together share it
    a member that is gone       leaves opinions that nobody reads; an unfinished pass is stale, because its rows would differ
    a member that has changed   is one that is gone, and one that came later

A pass of opinions alone has nothing else to lose: it is stale if one of its members has changed, or if none is left.
"""

from collections.abc import Callable, Mapping

from stj.errors import ArtifactError
from stj.loop.keys import without_content
from stj.storage.artifacts import Key, read_artifact
from stj.storage.folder import Folder

Panel = Mapping[str, Key]
"""How each member of a pass is asked, by name (`keys.panel_key`)."""


def panel_of_pass(folder: Folder, wanted: Panel, key_with: Callable[[Panel], Key], *, alone: bool) -> Panel:
    """The panel in the key of a pass in a folder, which `key_with` makes: that of the pass on disk, or the one `wanted` now.

    `alone` says whether the pass holds opinions and nothing else.
    """
    try:
        artifact = read_artifact(folder)
    except ArtifactError:  # absent, or damaged: whoever reads it says how
        return wanted
    begun: Panel = artifact.key.get("panel", {})
    kept = {name for name in begun if begun[name] == wanted.get(name)}
    if kept < begun.keys() and artifact.state()[0] != "done":
        return wanted
    if alone and (not kept or any(name in wanted for name in begun.keys() - kept)):
        return wanted
    makes_pairs = "categorize" in artifact.key
    keys = (without_content(key, makes_pairs=makes_pairs) for key in (key_with(begun), artifact.key))
    return begun if next(keys) == next(keys) else wanted
