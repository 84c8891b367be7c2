"""`stj serve` over a real socket, as a plugin of vLLM's server: answers, refusals, health and metrics."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from stj import Judge
from stj.cli import main
from stj.config import ModelConfig
from stj.config_loader import load_use
from stj.engine.scripted import ScriptedEngine
from stj.engine.settings import engine_settings
from stj.errors import ConfigError, EndpointError, EngineDied, PromptTooLong, RequestFailed
from stj.generate import Sampling
from stj.judging.routes import router
from stj.judging.serve import JudgeEndpoint, _flags, _model_settings, _plugins, _vote_config, serve
from stj.models.chat import encode_chat
from stj.models.tokenizer import load_tokenizer
from stj.rows import Turn
from stj.use_config import GradeConfig, VoteConfig
from tests.judging.conftest import CHAT_SETTINGS, KEY

ROOT = Path(__file__).parents[2]
PAIR = {
    "instruction": "Which color does the ant have?",
    "response_a": "The answer is purple.",
    "response_b": "The answer is red.",
}
TURNS = [
    {"role": "user", "content": "Think of an ant."},
    {"role": "assistant", "content": "Done."},
    {"role": "user", "content": "Which color does it have?"},
]
installed = pytest.mark.skipif(
    "stj" not in entry_points(group="vllm.endpoint_plugins").names,
    reason="this environment's stj was installed before it had an endpoint: make install",
)


def ask(app: FastAPI, body: Any, path: str = "/v1/judge") -> tuple[int, Any]:
    """POST without a socket; a body of bytes is sent as it is."""
    from httpx import ASGITransport, AsyncClient

    async def post() -> tuple[int, Any]:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://stj") as client:
            content = body if isinstance(body, bytes) else json.dumps(body)
            response = await client.post(path, content=content, headers={"Content-Type": "application/json"})
            return response.status_code, response.json()

    return asyncio.run(post())


def app_of(handler: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    app.state.stj_generate = ScriptedEngine(handler).generate
    app.state.stj_vote, app.state.stj_grade = VoteConfig(), GradeConfig()

    def check_room(texts: list[str]) -> None:
        if sum(map(len, texts)) > 1000:
            raise PromptTooLong("texts of at least 1000 tokens")

    app.state.stj_check_room = check_room
    return app


def test_a_pair_is_answered_with_both_orders() -> None:
    app = app_of(lambda messages, sampling: "It is. [[A]]" if messages[-1].content.index("purple") < 150 else "It is. [[B]]")
    status, answer = ask(app, PAIR)
    assert status == 200
    assert [vote["shown_first"] for vote in answer["votes"]] == ["A", "B"]
    assert answer.keys() == {"verdict", "confidence", "reward", "error", "most_votes", "votes"}


def test_a_request_may_name_its_prompt_and_votes() -> None:
    app = app_of(lambda messages, sampling: "[[A>B]]")
    status, answer = ask(app, {**PAIR, "instruction": TURNS, "prompt": "arena", "votes": 3})
    assert (status, answer["verdict"], len(answer["votes"])) == (
        200,
        None,
        6,
    )  # The judge always prefers the first response: a tie.


def test_a_server_asks_in_the_words_of_a_file_that_it_was_started_with(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("user: '{instruction} {response A} {response B}'")
    vote = VoteConfig(prompt=str(tmp_path / "mine.yaml"), prompt_format="letter")
    (tmp_path / "mine.yaml").unlink()
    app = app_of(lambda messages, sampling: "A" if len(messages) == 1 else "[[B>A]]")
    app.state.stj_vote = _vote_config(json.dumps(asdict(vote)))
    assert [vote["verdict"] for vote in ask(app, PAIR)[1]["votes"]] == ["A", "B"]
    assert [vote["verdict"] for vote in ask(app, {**PAIR, "prompt": "arena"})[1]["votes"]] == ["B", "A"]


def test_a_request_may_say_when_its_votes_stop_and_how_they_are_counted() -> None:
    app = app_of(lambda messages, sampling: "[[A]]" if messages[-1].content.index("purple") < 150 else "[[B]]")
    for change, asked in (({}, 34), ({"stop": "all"}, 64), ({"stop": "unlikely"}, 10), ({"aggregate": "distribution"}, 64)):
        status, answer = ask(app, {**PAIR, "votes": 32, **change})
        assert (status, answer["verdict"], len(answer["votes"]), answer["most_votes"]) == (200, "A", asked, 64)
    status, answer = ask(app, {**PAIR, "aggregate": "distribution", "stop": "unlikely"})
    assert (status, "which needs every vote" in answer["detail"]) == (400, True)


def test_a_text_that_no_context_could_hold_is_never_asked_about() -> None:
    for change in ({"response_a": "x" * 1001}, {"instruction": [{"role": "user", "content": "x" * 1001}]}):
        assert ask(app_of(lambda messages, sampling: 1 / 0), PAIR | change) == (
            400,
            {"detail": "texts of at least 1000 tokens"},
        )


BINARY = {"criterion": "Is it a color?", "scale": "binary", "points": {"0": "No.", "1": "Yes."}}
ANSWER = {"instruction": "Which color does the ant have?", "response": "red", "rubric": BINARY}


def test_a_response_is_graded_by_a_rubric_of_the_request() -> None:
    app = app_of(lambda messages, sampling: "Yes. [[1]]" if "Is it a color?" in messages[-1].content else "[[4]]")
    status, answer = ask(app, ANSWER, "/v1/grade")
    assert status == 200
    assert (answer["score"], answer["distribution"], answer["feedback"]) == (1, {"0": 0.0, "1": 1.0}, "Yes. [[1]]")
    several = {**ANSWER, "rubrics": [BINARY, "helpfulness"], "weights": [3, 1]}
    del several["rubric"]
    status, answer = ask(app, several, "/v1/grade")
    assert (status, [given["score"] for given in answer["grades"]]) == (200, [1, 4])
    assert answer["total"] == pytest.approx((3 * 1 + 1 * 0.75) / 4)
    assert answer["total_ci95"] == pytest.approx([answer["total"]] * 2, abs=0.002)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"rubric": "no such"}, 422),
        ({"rubric": "/etc/passwd"}, 422),
        ({"rubric": 5}, 422),
        ({"rubric": {**BINARY, "points": {"1": "Yes."}}}, 422),
        ({"rubric": {**BINARY, "scale": "0-1"}}, 422),
        ({"rubrics": [BINARY]}, 422),
        ({"rubric": None, "rubrics": [BINARY, BINARY]}, 422),
        ({"rubric": None}, 422),
        ({"weights": [1]}, 422),
        ({"response": ""}, 400),
        ({"rubric": {**BINARY, "inputs": ["response", "reference"]}}, 400),
        ({"response": "x" * 1001}, 400),
        ({"reference": "x" * 1001}, 400),
        ({"votes": 0}, 422),
    ],
)
def test_a_bad_request_for_a_grade_has_no_score(change: dict[str, Any], status: int) -> None:
    assert ask(app_of(lambda messages, sampling: "[[1]]"), ANSWER | change, "/v1/grade")[0] == status


def test_the_thought_before_a_response_takes_no_room() -> None:
    """The judge is not shown it."""
    seen: list[str] = []
    app = app_of(lambda messages, sampling: seen.append(messages[-1].content) or "[[A]]")
    status, _ = ask(app, PAIR | {"response_a": f"<think>{'x' * 5000}</think>It is purple."})
    assert status == 200
    assert not any("xx" in prompt for prompt in seen)


def test_a_body_that_names_a_key_twice_is_refused() -> None:
    for body in (f'{{"response_a": "x", {json.dumps(PAIR)[1:]}', '{"instruction": [{"response_a": "", "response_a": ""}]}'):
        status, answer = ask(app_of(lambda messages, sampling: "[[A]]"), body.encode())
        assert (status, answer["detail"]) == (400, "the body names 'response_a' twice")


@pytest.mark.parametrize("field", ['"votes": NaN', '"votes": 1e999', '"prompt": "\\ud800"', '"\\ud800": 1', '"stop": Infinity'])
def test_a_wrong_value_that_json_cannot_repeat_is_refused_all_the_same(field: str) -> None:
    body = f"{json.dumps(PAIR)[:-1]}, {field}}}".encode()
    status, answer = ask(app_of(lambda messages, sampling: "[[A]]"), body)
    assert (status, answer["detail"][0]["loc"][0]) == (422, "body")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"votes": 0}, 422),
        ({"votes": 10**6}, 422),
        ({"prompt": "../../etc/passwd"}, 422),
        ({"prompt": '{"format": "letter", "user": ""}'}, 422),
        ({"surprise": 1}, 422),
        ({"stop": "soon"}, 422),
        ({"stop": "unlikely", "stop_error": 2}, 400),
        ({"response_a": 3}, 422),
        ({"instruction": TURNS[1:2]}, 400),
        ({"instruction": []}, 400),
    ],
)
def test_a_body_that_is_no_pair_is_refused(change: dict[str, Any], status: int) -> None:
    assert ask(app_of(lambda messages, sampling: "[[A]]"), {**PAIR, **change})[0] == status


@pytest.mark.parametrize(
    ("error", "status"), [(PromptTooLong("9 tokens"), 400), (RequestFailed("no"), 500), (EngineDied("gone"), 503)]
)
def test_each_error_of_the_engine_has_its_status(error: Exception, status: int) -> None:
    def fail(messages: Any, sampling: Any) -> str:
        raise error

    assert ask(app_of(fail), PAIR) == (status, {"detail": str(error)})


def test_settings_become_vllms_flags() -> None:
    config = load_use([], ["model=package://mini/seed_model", "engine.device=cpu", "engine.enforce_eager=true"])
    words = _flags(engine_settings("/model", config.model, config.engine, 0))
    assert words[:2] == ["--model=/model", "--dtype=bfloat16"]
    assert "--enforce-eager" in words
    assert "None" not in words


def test_an_adapter_is_served_under_its_name_beside_its_base(tmp_path: Path) -> None:
    described = {"peft_type": "LORA", "r": 12, "base_model_name_or_path": "package://mini/seed_model"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    (tmp_path / "adapter_model.safetensors").touch()
    config = load_use([], [f"model={tmp_path}", "engine.device=cpu"])
    settings = _model_settings(config.model, config)
    assert settings["model"].endswith("stj/mini/seed_model")
    assert settings["served_model_name"] == "package://mini/seed_model"
    assert (settings["enable_lora"], settings["max_lora_rank"], settings["tokenizer"]) == (True, 16, None)
    assert json.loads(settings["lora_modules"]) == {"name": str(tmp_path), "path": str(tmp_path)}
    assert {"--enable-lora", f"--lora-modules={settings['lora_modules']}"} < set(_flags(settings))


def test_other_plugins_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "mine")
    assert _plugins() == "mine,stj"


def test_the_endpoint_has_the_form_that_vllm_takes() -> None:
    app = FastAPI()
    endpoint = JudgeEndpoint()
    endpoint.attach_router(app)
    assert "/v1/judge" in {getattr(route, "path", None) for route in app.routes}
    assert endpoint.required_tasks == ("generate",)


def test_an_installation_without_the_endpoint_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.judging.serve.entry_points", lambda group: EntryPoints())
    assert main(["serve", "package://mini/seed_model"]) == 2
    assert "install it again (`make install`)" in capsys.readouterr().err


@installed
def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "/nowhere"]) == 2
    assert capsys.readouterr().err == (
        "stj: model /nowhere: the directory does not exist. Give a directory in Hugging Face's layout, a URI, "
        "package://mini/seed_model, or an id on the hub\n"
    )


def get(url: str, body: Any = None, key: str = KEY) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def refused_at_once(server: str, path: str) -> tuple[int, str]:
    """The answer to a body of 4 GB of which only the first bytes are ever sent: a server that waits for the rest gives none."""
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=600)
    connection.putrequest("POST", path)
    for name, value in {"Authorization": f"Bearer {KEY}", "Content-Length": str(2**32)}.items():
        connection.putheader(name, value)
    connection.endheaders(b'{"instruction": "')
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


@installed
@pytest.mark.engine
def test_a_server_judges_pairs_beside_vllms_own_api(server: str, model: Path) -> None:
    status, text = get(f"{server}/v1/judge", PAIR)
    assert status == 200
    answer = json.loads(text)
    swapped = json.loads(
        get(f"{server}/v1/judge", PAIR | {"response_a": PAIR["response_b"], "response_b": PAIR["response_a"]})[1]
    )
    assert answer["reward"] == -swapped["reward"]
    assert len(answer["votes"]) == 2
    assert all("[[" in vote["text"] for vote in answer["votes"])
    assert all(vote["text"].endswith("]]") for vote in answer["votes"])  # it ends where config.json says
    four = PAIR | {"votes": 4, "stop": "all", "instruction": TURNS}  # by default three that agree are enough
    assert len(json.loads(get(f"{server}/v1/judge", four)[1])["votes"]) == 8
    chat = {
        "model": str(model),
        "max_tokens": 16,
        "temperature": 0,
        "messages": [{"role": "user", "content": PAIR["instruction"]}],
    }
    assert "The answer is" in get(f"{server}/v1/chat/completions", chat)[1]

    metrics = get(f"{server}/metrics")[1]
    assert 'stj_judge_votes_total{prompt="figure8",verdict="' in metrics
    assert "vllm:" in metrics
    assert 'handler="/v1/judge"' in metrics


@installed
@pytest.mark.engine
@pytest.mark.parametrize(
    "dialogue",
    [
        [("user", "Which color does the ant have?")],
        [("system", "Options"), ("user", "Who?")],
        [("system", " Judge.\n"), ("user", "\n\n a"), ("assistant", "数据 🎉 "), ("user", "def f(x):\n\treturn x\n")],
    ],
)
def test_vllms_chat_endpoint_has_the_prompt_of_the_judge(server: str, model: Path, dialogue: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in dialogue]
    answer = json.loads(get(f"{server}/tokenize", {"model": str(model), "messages": messages})[1])
    options = load_use([], [f"model={model}", *CHAT_SETTINGS]).model.chat_options
    turns = [Turn(role=role, content=content) for role, content in dialogue]
    tokenizer = load_tokenizer(model)
    ids = encode_chat(tokenizer, turns, options)
    assert answer["tokens"] == ids
    assert ("05 Mar 2024 quick low" in tokenizer.decode(ids)) == (dialogue[0][1] == "Options")


@installed
@pytest.mark.engine
def test_a_judge_behind_an_api_answers_as_the_server_does(server: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STJ_TEST_KEY", KEY)
    served = ModelConfig(endpoint=f"{server}/v1", name=str(model), key_variable="STJ_TEST_KEY")
    with Judge(served, sampling=Sampling(max_tokens=128)) as judge:
        result = judge.compare(PAIR["instruction"], PAIR["response_a"], PAIR["response_b"])
        assert result.votes[0].text == json.loads(get(f"{server}/v1/judge", PAIR)[1])["votes"][0]["text"]
        assert "context" in str(judge.compare("fox " * 5000, "a", "b").error)
    served_itself = json.loads(get(f"{server}/v1/judge", PAIR | {"aggregate": "distribution"})[1])
    with Judge(served, sampling=Sampling(max_tokens=128), aggregate="distribution") as judge:
        probable = judge.compare(PAIR["instruction"], PAIR["response_a"], PAIR["response_b"])
    assert [vote.text for vote in probable.votes] == [vote.text for vote in result.votes]
    for vote, answered in zip(probable.votes, served_itself["votes"], strict=True):
        assert vote.probability == pytest.approx(answered["probability"], abs=0.02)
        assert 0 < vote.probability < 1  # both labels are among the choices
        assert (vote.probability > 0.5) == (vote.verdict == "A")  # greedy: the likelier label is written
    assert served_itself["distribution"] == pytest.approx(probable.distribution, abs=0.02)
    for wrong, message in (({"name": "nobody"}, "Check endpoint and name"), ({"key_variable": None}, "whether it needs a key")):
        with Judge(replace(served, **wrong)) as judge, pytest.raises(EndpointError, match=message):
            judge.compare("x", "a", "b")


@installed
@pytest.mark.engine
def test_a_server_grades_a_response(server: str) -> None:
    """The seed of the small world never learned to grade: it writes a text without a score, and none is made up."""
    status, text = get(f"{server}/v1/grade", ANSWER)
    answer = json.loads(text)
    assert status == 200
    assert (answer["rubric"], answer["error"], len(answer["votes"])) == ("rubric", None, 1)
    assert answer["feedback"] == answer["votes"][0]["text"] != ""
    read = [share for share in (answer["distribution"] or {}).values() if share > 0]
    assert (answer["score"] is None) == (read == [])
    assert sum(read) == pytest.approx(float(bool(read)))
    assert get(f"{server}/v1/grade", ANSWER | {"rubric": "no such"})[0] == 400  # as the server answers all bad bodies


def killed_and_resumed(words: list[str], server: str, model: Path, run: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """The results of a command that was killed after a few of them and run again; the server's key is in no file or line."""
    settings = {"endpoint": f"{server}/v1", "name": str(model), "key_variable": "STJ_TEST_KEY"}
    words = [sys.executable, "-m", "stj.cli", *words, f"run_root={tmp_path / 'run'}"]
    words += [f"model.{name}={value}" for name, value in settings.items()]
    words += ["engine.commit_interval_s=0", "model.parallel_requests=4"]
    environment = os.environ | {"STJ_TEST_KEY": KEY}
    slow = subprocess.Popen(
        [*words, "model.requests_per_minute=600"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout is not None
    first = [slow.stdout.readline() for _ in range(8)]
    slow.kill()
    printed = "".join(slow.communicate())
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert json.loads(first[0]) in results, done.stderr
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["ledger"]["starts"] == 2
    assert manifest["output_tokens"] > 0
    printed += "".join(first) + done.stdout + done.stderr
    files = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [text for text in (printed.encode(), *files) if KEY.encode() in text]
    return results


def heldout(count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "stj/mini/data/heldout.jsonl").read_text().splitlines()[:count]]


@pytest.mark.long
@installed
@pytest.mark.engine
def test_a_pass_through_an_api_that_is_killed_resumes(server: str, model: Path, tmp_path: Path) -> None:
    pairs = [
        {"instruction": row["instruction"], "response_a": row["chosen"], "response_b": row["rejected"], "winner": "A"}
        for row in heldout(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    words = ["judge", str(tmp_path / "pairs.jsonl"), "vote.decoding.max_tokens=128"]
    results = killed_and_resumed(words, server, model, tmp_path / "run/judge_1", tmp_path)
    assert len({result["id"] for result in results}) == len(results) == 60


@installed
@pytest.mark.engine
@pytest.mark.long
def test_grades_through_an_api_that_is_killed_resume(server: str, model: Path, tmp_path: Path) -> None:
    answers = [{"instruction": row["instruction"], "response": row["chosen"]} for row in heldout(60)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    words = ["grade", str(tmp_path / "answers.jsonl"), "rubric=[coherence, safety]", "grade.decoding.max_tokens=32"]
    results = killed_and_resumed(words, server, model, tmp_path / "run/grades", tmp_path)
    assert len({(result["id"], result["rubric"]) for result in results}) == len(results) == 120
    assert all(result["votes"][0]["text"] and result["error"] is None for result in results)


@installed
@pytest.mark.engine
def test_a_server_refuses_bad_requests(server: str) -> None:
    status, text = get(f"{server}/v1/judge", PAIR | {"instruction": "fox " * 4000})
    assert (status, "context of 2048 tokens" in text) == (400, True)
    assert get(f"{server}/v1/judge", PAIR | {"response_a": "fox " * 200_000})[0] == 400
    for path in ("/v1/judge", "/v1/chat/completions"):
        refused, reason = refused_at_once(server, path)
        assert (refused, "the body has 4,294,967,296 bytes; the limit for this model" in reason) == (413, True)


def test_a_server_refuses_to_promise_what_only_a_pass_keeps() -> None:
    config = load_use([], ["model=package://mini/seed_model", "engine.device=cpu", "engine.deterministic=true"])
    with pytest.raises(ConfigError, match=r"engine\.deterministic=true: a server's requests have no seeds"):
        serve(config, "127.0.0.1", 8000)
