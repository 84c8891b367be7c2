"""Records come back as they were written, and what cannot be read is one line with the remedy that works."""

import hashlib
import json
from pathlib import Path

import pytest

from stj.errors import ArtifactError
from stj.evals.benchmarks.evaluation import read_scores
from stj.loop.status import read_run_config
from stj.passes.ledger import Ledger, read_ledger
from stj.storage import known_digests
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.known_digests import known_digest
from stj.storage.sealed import read_sealed, write_sealed
from stj.train.committed import committed


def test_a_record_comes_back_as_json_has_it(tmp_path: Path) -> None:
    """Numbers in keys become texts, whose order is another one."""
    write_sealed(Folder.at(tmp_path), "a.json", {"counts": {10: 1, 9: (2, 0.1)}, "name": "\ud800 é"})
    record = read_sealed(Folder.at(tmp_path), "a.json", "")
    assert record == {"counts": {"10": 1, "9": [2, 0.1]}, "name": "\ud800 é"}


def test_a_record_without_a_format_is_damaged(tmp_path: Path) -> None:
    record = {"key": {}}
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    (tmp_path / "a.json").write_text(json.dumps({**record, "sha256": digest}))
    with pytest.raises(ArtifactError, match=r"a.json: damaged: .*; copy it again"):
        read_sealed(Folder.at(tmp_path), "a.json", "copy it again")


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A whole file under another one's name."""
    write_sealed(Folder.at(tmp_path), "a.json", {"key": {}})
    assert read_sealed(Folder.at(tmp_path), "a.json", "", fields=("key",)) == {"key": {}}
    with pytest.raises(ArtifactError, match=r"a.json: no a.json that stj writes: it has no 'usage'; copy it again"):
        read_sealed(Folder.at(tmp_path), "a.json", "copy it again", fields=("key", "usage"))


def test_every_reader_refuses_a_record_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "cache"))
    folder, weights = Folder.at(tmp_path), tmp_path / "weights"
    for name in ("ledger.json", "config.json", "scores.json", "step_00000001/manifest.json"):
        write_sealed(folder / name.rpartition("/")[0] if "/" in name else folder, name.rpartition("/")[2], {"name": "another"})
    weights.write_bytes(bytes(1 << 24))
    for _ in range(2):
        monkeypatch.setattr(known_digests, "_known", {})
        assert known_digest(weights) == FileDigest.of_file(weights)
        (remembered,) = (tmp_path / "cache/digests").glob("*.json")
        write_sealed(Folder.at(remembered.parent), remembered.name, {"name": "another"})
    assert read_ledger(folder) == Ledger()
    assert committed(folder, "f") == []
    for read in (read_run_config, read_scores):
        with pytest.raises(ArtifactError, match="that stj writes"):
            read(folder)
