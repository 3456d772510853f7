"""A recipe from data as it lies: what is found, what is guessed, and that a run takes what was written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from flows.cli import invoke
from flows.recipe import read_recipe
from tests.conftest import write, write_world

DATA = Path(__file__).parents[2] / "../shared/data"
ROW = {"instruction": "Name the river.", "input": "of the town", "output": "The Aare."}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    assert invoke(["init", *map(str, arguments), "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def by_name(told: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in told["sources"]}


def many(n: int) -> list[dict[str, str]]:
    return [{**ROW, "input": f"of town {i}", "output": f"The river {i}."} for i in range(n)]


def long(n: int) -> list[dict[str, str]]:
    """Return rows of which so many make several megabytes."""
    return [{**row, "output": row["output"] + " It flows." * 20} for row in many(n)]


def lay_a_folder(folder: Path) -> None:
    """Lay what a stranger may have: shards, splits, documents, a benchmark, a table of foreign columns, and what is no data."""
    write_world(folder)
    rows = many(40)
    for i in (1, 2):
        shard = pl.DataFrame(rows[20 * (i - 1) : 20 * i]).with_columns(pl.lit("MIT").alias("license"))
        shard.write_parquet(folder / f"law-0000{i}-of-00002.parquet")
    (folder / "law.jsonl").unlink()
    write(folder / "medicine-val.jsonl", many(9))
    write(folder / "poems" / "text.jsonl", [{"text": f"Ode {i}"} for i in range(5)])
    write(folder / "benchmarks" / "gsm8k.jsonl", [{"question": f"q{i}", "choices": [f"a{i}"]} for i in range(9)])
    (folder / "court.csv").write_text("Frage,Antwort\nWer?,Der.\nWas?,Das.\n")
    (folder / "odd.csv").write_text("a,b\n1,2\n")
    (folder / "LICENSE").write_text("Creative Commons Attribution-ShareAlike 4.0 International\n")
    (folder / "net").mkdir()
    (folder / "net" / "config.json").write_text("{}")


def test_a_folder_becomes_a_recipe_that_a_dry_run_takes(
    here: Path, capsys: pytest.CaptureFixture[str], done: tuple[Path, dict[str, Any]]
) -> None:
    lay_a_folder(here / "data")
    model = done[1]["base"].path / "model"
    told = init(capsys, "data", "--base-model", model, "--name", "mine")
    assert {each["name"]: each["use"] for each in told["sources"]} == {
        "law": "target", "medicine": "target", "code": "target", "court": "target", "medicine-validation": "validation",
        "law-reference": "reference", "medicine-reference": "reference", "code-reference": "reference",
        "gsm8k-evaluation": "evaluation", "odd": "none", "poems": "none",
    }  # fmt: skip
    sources = by_name(told)
    assert (sources["law"]["path"], sources["law"]["rows"]) == ("data/law-0000*-of-00002.parquet", 40)
    assert (sources["law"]["license"], sources["code"]["license"]) == ("from_row", "CC-BY-SA-4.0")
    assert sources["court"]["columns"] == {"prompt": "Frage", "completion": "Antwort"}
    assert "its fields: a, b" in sources["odd"]["notes"][0]
    assert told["passed_over"] == [{"path": "data/net", "why": "a model or an artifact"}]
    assert told["tokens"]["counted"]

    recipe = read_recipe("recipe.yaml")
    assert recipe.targets == ("code", "court", "law", "medicine")
    assert recipe.decontaminate is not None
    assert ([each.name for each in recipe.decontaminate.against], recipe.decontaminate.validation) == (
        ["gsm8k-evaluation"],
        True,
    )
    assert recipe.max_length == 128
    assert max(map(len, Path("recipe.yaml").read_text().splitlines())) < 160
    assert invoke(["run", "recipe.yaml", "--dry-run", "--json"]) == 0
    assert {each["name"]: each["rows"] for each in json.loads(capsys.readouterr().out)["sources"]}["court"] == 2


def test_what_was_written_can_be_ingested(
    here: Path, capsys: pytest.CaptureFixture[str], done: tuple[Path, dict[str, Any]]
) -> None:
    lay_a_folder(here / "data")
    init(capsys, "data", "--base-model", done[1]["base"].path / "model")
    assert invoke(["pool", "recipe.yaml", "--plain", "--json"]) == 0
    capsys.readouterr()
    pooled = pl.concat([pl.read_parquet(path) for path in Path("store/samples").glob("*/*.parquet")], how="diagonal")
    assert {"law", "court", "medicine", "code"} <= set(pooled["domain"])


def test_without_a_model_the_line_is_marked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "law.jsonl", many(3))
    assert invoke(["init", "law.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "No base model was named: write its path into the line base_model" in shown
    assert "sft-composer run recipe.yaml --dry-run" in shown
    text = Path("recipe.yaml").read_text()
    assert "base_model: {path: MODEL}" in text
    assert "TO FILL IN" in text
    assert "CHECK license: none was found" in text
    assert yaml.safe_load(text)["name"] == "law"
    assert invoke(["run", "recipe.yaml", "--dry-run"]) == 2
    assert "base_model.path: no model at this path" in capsys.readouterr().err


def test_at_a_terminal_the_model_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(_: str, *, default: str, err: bool) -> str:
        assert err, "stdout is for the result"
        asked.append(default)
        return "org/model" if len(asked) == 1 else "none"

    monkeypatch.setattr("flows.init._is_at_a_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", answer)
    write(here / "law.jsonl", many(3))
    (here / "models" / "near").mkdir(parents=True)
    (here / "models" / "near" / "config.json").write_text("{}")
    assert invoke(["init", "law.jsonl"]) == 0
    assert asked == ["models/near"], "what lies near is proposed"
    assert read_recipe("recipe.yaml").base_model.path == "org/model"
    assert invoke(["init", "law.jsonl", "--force"]) == 2
    assert "--base-model: no model at this path" in capsys.readouterr().err


def test_a_file_is_never_written_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "law.jsonl", many(3))
    (here / "recipe.yaml").write_text("mine")
    told = init(capsys, "law.jsonl", code=2)
    assert "--out: the file is there already; got recipe.yaml" in told["error"]["message"]
    assert (here / "recipe.yaml").read_text() == "mine"
    init(capsys, "law.jsonl", "--force")
    assert (here / "recipe.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "SOURCES: no such file; got none"),
        (["empty"], "SOURCES: a folder without supported files"),
        (["texts"], 'its 2 text files are no rows: write {"text": ...} of each into a .jsonl file'),
        (["odd.csv"], "odd.csv: nothing here can be trained on"),
        (["law.jsonl", "--base-model", "none"], "--base-model: no model at this path; expected a folder with config.json"),
        (["law.jsonl", "--base-model", "hollow"], "base_model.path: no tokenizer"),
        (["law.jsonl", "--out", "none/recipe.yaml"], "--out: no such folder; got none; mkdir -p none"),
        (["org/none"], "SOURCES: no commit for the Hub dataset"),
    ],
)
def test_what_cannot_be_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write(here / "law.jsonl", many(3))
    (here / "odd.csv").write_text("a,b\n1,2\n")
    for name in ("empty", "texts", "hollow"):
        (here / name).mkdir()
    for name in ("a.txt", "b.md"):
        (here / "texts" / name).write_text("a text")
    (here / "hollow" / "config.json").write_text("{}")
    assert says in init(capsys, *arguments, code=2)["error"]["message"]
    assert not (here / "recipe.yaml").exists()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "jsonl.gz", "json of lines"])
def test_a_large_file_is_not_read_whole(here: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    n = 20_000
    table = pl.DataFrame(long(n))
    file = here / f"law.{kind.split()[0]}"
    lines = table.write_ndjson().encode()
    if kind == "csv":
        table.write_csv(file)
    elif kind == "parquet":
        table.write_parquet(file, row_group_size=5_000)
    elif kind == "json":
        file.write_text(json.dumps(table.to_dicts()))
    else:
        file.write_bytes(gzip.compress(lines, 1) if kind == "jsonl.gz" else lines)
    [source] = init(capsys, file)["sources"]
    assert source["dropped"] == {}
    assert source["looked_at"] < n / 3
    if kind == "jsonl.gz":
        assert source["rows"] is None
    else:
        assert source["rows"] == pytest.approx(n, rel=0 if kind == "parquet" else 0.1)
        assert source["exact"] == (kind == "parquet")


def test_an_object_that_holds_its_rows_is_read_whole_or_not_at_all(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 20_000
    (here / "law.json").write_text(json.dumps({"data": long(n)}))
    [source] = init(capsys, "law.json")["sources"]
    assert (source["rows"], source["exact"]) == (n, True)
    monkeypatch.setattr("composer.ingest.beginning.WHOLE", 1 << 20)
    assert "too large to be looked into" in init(capsys, "law.json", "--force", code=2)["error"]["message"]


def test_documents_alone_are_trained_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "wiki" / "train.jsonl", [{"text": f"page {i}"} for i in range(5)])
    told = init(capsys, "wiki")
    assert {name: each["use"] for name, each in by_name(told).items()} == {"wiki": "target"}
    assert read_recipe("recipe.yaml").probe is None, "one domain has nothing to weigh"


def test_a_validation_and_a_test_split_beside_training_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "dev", "test"):
        write(here / "law" / f"{name}.jsonl", many(3))
    told = init(capsys, "law")
    uses = {name: each["use"] for name, each in by_name(told).items()}
    assert uses == {"law": "target", "law-validation": "validation", "law-test": "evaluation"}
    assert read_recipe("recipe.yaml").holdout == 0


def test_a_broken_file_is_left_out_and_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "data" / "law.jsonl", many(3))
    (here / "data" / "code.parquet").write_bytes(b"PAR1 cut short")
    (here / "data" / "math.jsonl").write_bytes(b"\xff\xfe\x00 no text")
    sources = by_name(init(capsys, "data"))
    assert (sources["code"]["use"], sources["math"]["use"]) == ("none", "none")
    assert "unreadable_file" in sources["code"]["notes"][0]
    assert read_recipe("recipe.yaml").targets == ("law",)


@pytest.mark.usefixtures("here")
def test_real_data_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    if not (DATA / "domains").exists():
        pytest.skip("shared data is not on this machine")
    told = init(capsys, DATA / "domains", "--name", "real")
    assert {each["use"] for each in told["sources"]} == {"target"}
    assert {each["license"] for each in told["sources"]} == {"from_row"}
    assert told["domains"] == sorted(path.stem for path in (DATA / "domains").glob("*.parquet"))
