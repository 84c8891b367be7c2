"""Records come back as they were written, and what cannot be read is one line with the remedy that works."""

import hashlib
import json
from pathlib import Path

import pytest

from stj.errors import ArtifactError
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, write_sealed


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
