"""`stj export`: a model as others can load it, with a card.

    README.md               the card
    manifest.json           the SHA-256 of each file, which stj checks when it loads the model
    *.safetensors, config.json, tokenizer.json, chat_template.jinja ...
    LICENSE, NOTICE ...     those of the base model, if they lie beside it

Neither checkpoints nor the run's own manifest goes along: it names paths of the machine that trained.

If a directory that was exported before is published, its card goes along as it is, with all that its owner has written.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stj.errors import ConfigError
from stj.hub_log import quiet_hub
from stj.models.digests import written_digests
from stj.models.hub import is_hub_id
from stj.package_files import package_path
from stj.publishing.base_model import BaseModel, base_model
from stj.publishing.destination import Destination, Filling, LocalDirectory, destination
from stj.publishing.facts import JudgeFacts, judge_facts
from stj.publishing.model_card import model_card, renamed
from stj.publishing.model_files import ModelFiles, model_files
from stj.publishing.published import Published, better_judges, find_published
from stj.storage.artifacts import MANIFEST, Artifact, Key
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.known_digests import known_digests
from stj.text import Show, data_size

CARD = "README.md"
_STEP = "export"


def export_model(word: str, dest: str, show: Show) -> str:
    """Publishes a model with its card; returns what was published and where, in a line.

    Raises ConfigError if the place is taken or lies in the model, ModelError if the model is missing, damaged or not complete,
    ArtifactError if the card would be wrong, and StorageFailed if the disk is too small. Then nothing is published.
    """
    quiet_hub()
    published = find_published(word)
    place = destination(dest, "model")
    _refuse_inside(published, place, dest)
    facts = judge_facts(published.run, published.judge) if published.run else None
    if note := better_judges(published):
        show(note)
    files = model_files(published.model)
    base = _base_of(published, files, facts)
    card = _card(files, facts, base, place.name)
    place.require_room(files.size)
    with place.filling() as filling:
        for name, digest in files.digests.items():
            filling.add(files.directory / name, digest)
        _add_legal(files, base, filling)
        _write_manifest(files, published, filling)
        filling.write(CARD, card)
    judge = f"M_{published.judge} of {published.run.folder.uri}" if published.run else published.model.path
    return f"{place.shown}: {judge}, {len(filling.digests)} files, {data_size(files.size)}"


def _refuse_inside(published: Published, place: Destination, dest: str) -> None:
    """Raises ConfigError if the place is in the model or in a phase of the run, where a later start may delete it."""
    if not isinstance(place, LocalDirectory) or is_hub_id(published.model.path):
        return
    model = Folder.at(package_path(published.model.path)).local
    if model and model.resolve() in place.path.parents:
        raise ConfigError(
            f"DEST={dest}: lies in the model {published.model.path}, which is read: name a directory outside of it"
        )


def _base_of(published: Published, files: ModelFiles, facts: JudgeFacts | None) -> BaseModel | None:
    """The base by the adapter, by the run, or by the model itself if it names one."""
    if files.adapter:
        return base_model(files.adapter.base.path, files.adapter.base.revision)
    if facts:
        return base_model(facts.base, _revision(published))
    record = _record(files.directory)
    parents = record.get("model", {}).get("parents") or []
    if parents:
        return base_model(record.get("model", {}).get("base", {}).get("path") or parents[0].get("path"))
    if is_hub_id(published.model.path):
        return base_model(published.model.path, published.model.revision)
    return base_model(record.get("model", {}).get("seed"))


def _revision(published: Published) -> str | None:
    seed = published.run.config.get("models", {}).get("seed", {}) if published.run else {}
    revision = seed.get("revision")
    return str(revision) if revision else None


def _add_legal(files: ModelFiles, base: BaseModel | None, filling: Filling) -> None:
    """The licences and notices of the model, and those of its base that have other names."""
    of_both: Sequence[Path] = (*files.legal, *(base.legal_files if base else ()))
    first = {path.name: path for path in reversed(of_both)}
    for path, digest in zip(first.values(), known_digests([path.resolve() for path in first.values()]), strict=True):
        filling.add(path, digest)


def _write_manifest(files: ModelFiles, published: Published, filling: Filling) -> None:
    """The digests of what is loaded. The card is not among them: its owner may edit it."""
    record = _record(files.directory)
    if record.get("key", {}).get("step") == _STEP:
        key: Key = record["key"]
    else:
        judge = f"M_{published.judge}" if published.run else None
        key = {"step": _STEP, "of": record.get("fingerprint"), "judge": judge}
    listed = {name: asdict(digest) for name, digest in files.digests.items()}
    Artifact(Folder.at(filling.directory), key).finish(model={"files": listed})
    content = (filling.directory / MANIFEST).read_bytes()
    filling.digests[MANIFEST] = FileDigest.of(content)


def _card(files: ModelFiles, facts: JudgeFacts | None, base: BaseModel | None, name: str) -> bytes:
    record = _record(files.directory)
    if record.get("key", {}).get("step") == _STEP and (files.directory / CARD).is_file():
        return renamed((files.directory / CARD).read_bytes(), name)
    merged = [_parent_words(parent) for parent in record.get("model", {}).get("parents") or []]
    return model_card(name, facts, base, files.adapter, merged)


def _parent_words(parent: Mapping[str, Any]) -> str:
    path = str(parent.get("path", ""))
    return f"`{path if is_hub_id(path) else Path(path.rstrip('/')).name}`, weight {parent.get('weight', 0):g}"


def _record(directory: Path) -> Mapping[str, Any]:
    """The manifest that stj wrote beside a model, which was checked before; empty for a model from elsewhere."""
    if written_digests(Folder.at(directory), str(directory)):
        with suppress(ValueError):
            record: Mapping[str, Any] = json.loads((directory / MANIFEST).read_bytes())
            return record
    return {}
