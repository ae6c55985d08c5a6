"""Settings of embedders that contradict each other are refused by name; each sound combination gives its embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.config import parse
from node.embedding import embedder_of
from node.embedding_http import HttpEmbedder
from node.verbs.checks import inspect
from proto.errors import Invalid
from router.embedders.minilm import MiniLM
from router.embedders.sentence_transformers import SentenceTransformers

HTTP = {"embedder": "http", "endpoint": {"url": "https://models.example.org/v1/", "model": "small"}}


def search(tmp_path: Path, **settings: Any) -> Any:
    return parse({"search": settings}, tmp_path).search


def with_endpoint(**changes: Any) -> dict[str, Any]:
    return {**HTTP, "endpoint": {**HTTP["endpoint"], **changes}}  # type: ignore[dict-item]


def test_each_kind_is_made_from_its_settings(tmp_path: Path) -> None:
    assert embedder_of(search(tmp_path, embedder="none")) is None
    exact = embedder_of(search(tmp_path, adapter=False, precision="float32"))
    assert isinstance(exact, MiniLM)
    assert "+" not in exact.model_id
    assert isinstance(
        embedder_of(search(tmp_path, embedder="some/model@abc", device="cuda:0", batch_size=64)), SentenceTransformers
    )
    asked = embedder_of(search(tmp_path, **HTTP))
    assert isinstance(asked, HttpEmbedder)
    assert asked.model_id == "small@models.example.org/v1"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"embedder": "http"}, r"search\.endpoint\.url.*is missing"),
        (with_endpoint(model=""), r"search\.endpoint\.model.*is missing"),
        (with_endpoint(url="http://models.example.org"), "is not protected"),
        (with_endpoint(url="https://user:pw@models.example.org"), "without a query or credentials"),
        (with_endpoint(url="https://models.example.org:0/v1"), "is not http"),
        (with_endpoint(url="models.example.org"), "is not http"),
        ({"endpoint": {"model": "small"}}, "would have no effect: search.embedder is 'minilm'"),
        ({"embedder": "none", "precision": "int8"}, r"search\.precision.*would have no effect"),
        ({"device": "cuda"}, r"search\.device.*would have no effect"),
        ({**HTTP, "batch_size": 4}, r"see search\.endpoint"),
        ({"precision": "int4"}, r"search\.precision"),
        ({"embedder": "some/model", "device": "the fast one"}, r"search\.device"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_mend(tmp_path: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        search(tmp_path, **settings)


def test_http_without_tls_is_for_this_machine_or_for_who_says_so(tmp_path: Path) -> None:
    assert search(tmp_path, **with_endpoint(url="http://127.0.0.1:8080/v1")).endpoint.url == "http://127.0.0.1:8080/v1"
    report = inspect(parse({"search": with_endpoint(url="http://10.0.0.9/v1", insecure=True)}, tmp_path))
    assert any("search.endpoint.insecure" in w for w in report.warnings)


def test_a_flag_and_a_path_for_the_adapter_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert search(tmp_path, adapter="false").adapter is False
    assert search(tmp_path, adapter=True).adapter is True
    assert search(tmp_path, adapter="own.safetensors").adapter == tmp_path / "own.safetensors"


def test_check_tells_which_model_would_run_and_where(tmp_path: Path) -> None:
    def told(**settings: Any) -> str:
        return dict(inspect(parse({"search": settings}, tmp_path)).facts)["search"]

    assert "all-MiniLM-L6-v2@53aa51172d14" in told()
    assert "in int8" in told()
    assert "in float32" in told(precision="float32")
    assert "without a key, 32 texts a request, 10 s each" in told(**HTTP)
    assert "on cuda:1, 16 texts at once" in told(embedder="some/model", device="cuda:1")
    problems = inspect(parse({"search": {"adapter": "none.safetensors"}}, tmp_path)).problems
    assert any("search.adapter" in p and "No such file" in p for p in problems)
    for folder in ("/no/such/folder", "./no/such/folder"):
        problems = inspect(parse({"search": {"embedder": folder}}, tmp_path)).problems
        assert any("no/such/folder is not a folder" in p for p in problems)


def test_check_tells_when_the_authority_of_the_store_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")

    def problems(ca: str) -> str:
        store = {"url": "https://chroma.example.org", "ca": ca}
        return " ".join(inspect(parse({"search": {"store": store}}, tmp_path)).problems)

    assert "search.store.ca" in problems("missing.pem")
    assert "No such file" in problems("missing.pem")
    assert "give a PEM file" in problems("text.pem")
    store = {"url": "http://10.0.0.9:8000", "insecure": True}
    assert any("search.store.insecure" in w for w in inspect(parse({"search": {"store": store}}, tmp_path)).warnings)
