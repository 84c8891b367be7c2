"""Passes through a model behind an API, from the command line: resumed, ended by a wrong key, and without the key on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.cli import main
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from tests.engine.api_server import KEY, Api, Reply, api, refused, said
from tests.ray_here import install

JUDGMENT = "Response A is right. [[A]]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 40 pairs, and a cluster that is this process."""
    pairs = [{"instruction": f"{i} + 1?", "response_a": f"{i + 1}", "response_b": "0", "winner": "A"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    monkeypatch.setenv("TEST_API_KEY", KEY)
    monkeypatch.setattr("stj.engine.endpoint._WAITS_S", (0.01,))
    install(monkeypatch)
    return tmp_path


def judge(folder: Path, server: Api, *words: str) -> int:
    place = ["model.endpoint=" + server.url, "model.name=judge-1", "model.key_variable=TEST_API_KEY"]
    return main(["judge", str(folder / "pairs.jsonl"), *place, f"run_root={folder / 'run'}", *words])


def manifest(folder: Path) -> dict[str, Any]:
    return read_artifact(Folder.at(folder / "run" / "judge_1")).manifest()


def assert_key_nowhere(folder: Path, captured: str) -> None:
    assert KEY not in captured
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_pairs_are_judged_by_an_api_and_the_ledger_knows_its_price(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prices = ["model.dollars_per_million_prompt_tokens=2", "model.dollars_per_million_output_tokens=10"]
    with api(lambda body, number: said(JUDGMENT)) as server:
        assert judge(folder, server, *prices) == 0
        assert len(server.requests) == 80
    printed = capfd.readouterr()
    results = [json.loads(line) for line in printed.out.splitlines()]
    assert {result["model"] for result in results} == {f"judge-1 at {server.url}"}
    ledger = manifest(folder)["ledger"]
    assert (ledger["prompt_tokens"], ledger["output_tokens"]) == (8000, 800)
    assert ledger["dollars"] == pytest.approx((8000 * 2 + 800 * 10) / 1e6)
    assert_key_nowhere(folder, printed.out + printed.err)


@pytest.mark.slow
def test_a_key_that_is_refused_midway_ends_the_pass_in_one_line_and_the_rest_follows(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    valid_until = [30]

    def revoked(body: dict[str, Any], number: int) -> Reply:
        return said(JUDGMENT) if number < valid_until[0] else refused(401, f"Incorrect API key provided: {KEY}")

    settings = ["model.parallel_requests=2", "engine.commit_interval_s=0"]
    with api(revoked) as server:
        assert judge(folder, server, *settings) == 2
        assert len(server.requests) <= 34
        printed = capfd.readouterr()
        assert printed.err.splitlines()[-1].startswith(
            f"stj: judge-1 at {server.url}: status 401, Incorrect API key provided: [key]. Check the key in TEST_API_KEY"
        )
        assert "Traceback" not in printed.err
        assert len(printed.out.splitlines()) >= 10
        valid_until[0] = 1000
        assert judge(folder, server, *settings) == 0
    assert len(server.requests) <= 80 + 10  # what was judged is not asked again
    assert manifest(folder)["rows"] == 40
    assert_key_nowhere(folder, printed.out + printed.err)


@pytest.mark.slow
def test_rows_that_an_api_fails_are_counted_and_refusals_are_no_verdict(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def moody(body: dict[str, Any], number: int) -> Reply:
        question = body["messages"][-1]["content"]
        if "\n7 + 1?" in question:
            return refused(500, f"broken for {KEY}")
        return said(None, refusal="I will not judge.") if "13 + 1?" in question else said(JUDGMENT)

    with api(moody) as server:
        assert judge(folder, server) == 1
        error = capfd.readouterr().err.splitlines()[-1]
        assert "1 of 40 rows failed" in error
        assert "[key]" in error
        assert judge(folder, server, "engine.max_failed_fraction=0.1") == 0
    printed = capfd.readouterr()
    assert manifest(folder)["failed"] == 1
    results = {result["id"]: result for result in map(json.loads, printed.out.splitlines())}
    refused_votes = [vote for result in results.values() for vote in result["votes"] if vote["text"] == "I will not judge."]
    assert [vote["verdict"] for vote in refused_votes] == [None, None]
    assert_key_nowhere(folder, printed.out + printed.err + error)


def test_a_missing_key_and_a_model_that_nobody_can_serve_are_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_API_KEY")
    with api(lambda body, number: said(JUDGMENT)) as server:
        assert judge(folder, server) == 2
        assert "key_variable=TEST_API_KEY is not set" in capfd.readouterr().err
        (folder / "api.yaml").write_text(f"endpoint: {server.url}\nname: judge-1\n")
        assert main(["serve", str(folder / "api.yaml")]) == 2
        assert "is served there already" in capfd.readouterr().err
        assert server.requests == []


@pytest.mark.slow
def test_what_is_done_needs_no_key(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with api(lambda body, number: said(JUDGMENT)) as server:
        assert judge(folder, server) == 0
        first = capfd.readouterr().out
        monkeypatch.delenv("TEST_API_KEY")
        assert judge(folder, server) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == sorted(first.splitlines())


@pytest.mark.slow
def test_a_jury_may_mix_apis(folder: Path) -> None:
    with api(lambda body, number: said(f"[[{body['model']}]]")) as server:
        for name in ("A", "B"):
            (folder / f"{name}.yaml").write_text(f"endpoint: {server.url}\nname: {name}\nkey_variable: TEST_API_KEY\n")
        jury = [str(folder / "A.yaml"), str(folder / "B.yaml")]
        assert main(["judge", str(folder / "pairs.jsonl"), f"run_root={folder / 'run'}", "--jury", *jury]) == 0
    agreement = json.loads((folder / "run" / "agreement.json").read_text())
    assert agreement["jurors"] == [f"A at {server.url}", f"B at {server.url}"]


@pytest.mark.slow
def test_a_file_of_results_on_a_full_disk_is_one_line_and_the_judged_rows_are_kept(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with api(lambda body, number: said(JUDGMENT)) as server:
        assert judge(folder, server, "--out", "/dev/full") == 1
        line = capfd.readouterr().err.splitlines()[-1]
        assert line.startswith("stj: /dev/full: cannot write: No space left on device")
        assert judge(folder, server) == 0
    assert len(capfd.readouterr().out.splitlines()) == 40
