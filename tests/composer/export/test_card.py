"""The card: a front matter that the Hub's own libraries accept and load by, and a body that text from outside cannot break."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
import yaml

from composer import tables
from composer.compose import Composition, compose
from composer.export import EXPORTERS
from composer.export.card import card, size_category, write_card
from composer.export.rows import licenses
from composer.select import SELECTORS
from composer.types import Mixture, Phase, Schedule

DOMAINS = ("law", "code", "empty")
EVIL = 'x|y\n<script>alert("1")</script> `tick` [a](http://b) \\ ~~z~~ **b**'


def pool(n: int = 8, *, license: str = "MIT") -> pl.DataFrame:
    """Return n samples, law and code in turn."""
    return pl.DataFrame(
        {
            "sample_id": [f"{i:016x}" for i in range(n)],
            "source": ["rows"] * n,
            "domain": [DOMAINS[i % 2] for i in range(n)],
            "role": ["target"] * n,
            "instruction_id": [f"{i:016x}" for i in range(n)],
            "messages": [[{"role": "user", "content": "SECRET"}, {"role": "assistant", "content": "yes"}]] * n,
            "n_tokens": [10] * n,
            "n_loss_tokens": [4] * n,
            "license": [license] * n,
            "source_revision": ["0123456789abcdef"] * n,
            "extras": [None] * n,
        },
        schema=pl.Schema(tables.SAMPLE),
    )


def plan(*, current: tuple[str, ...] = DOMAINS) -> Schedule:
    """Return one phase of 28 loss tokens, a quarter law, half code and a quarter of a domain without rows."""
    mixture = Mixture(domains=DOMAINS, weights=(0.25, 0.5, 0.25), law="explicit")
    return Schedule(phases=(Phase(name="all", amount=28, mixture=mixture, current=current),))


def composed(schedule: Schedule, samples: pl.DataFrame) -> Composition:
    """Compose what the schedule says."""
    uniform = SELECTORS["uniform"]()
    return compose(
        schedule, samples, domains=DOMAINS, select=uniform, replay_select=uniform, scores=None, max_repeats=1, seed=0
    )


def licenses_of(rows: pl.DataFrame, samples: pl.DataFrame) -> dict[str, int]:
    """Return the licences of a composition as they are counted in its tables."""
    with TemporaryDirectory() as folder:
        return licenses(*lay(Path(folder), rows, samples))


def lay(folder: Path, rows: pl.DataFrame, samples: pl.DataFrame) -> tuple[Path, Path]:
    """Write a composition and its samples as tables."""
    tables.write(rows, folder / "composition.parquet", tables.COMPOSITION)
    tables.write(samples, folder / "samples.parquet", tables.SAMPLE)
    return folder / "composition.parquet", folder / "samples.parquet"


def arguments(*, schedule: Schedule | None = None, **changes: Any) -> dict[str, Any]:
    """Return what a card is made of, composed of two domains with rows and one without."""
    schedule, samples = schedule or plan(), changes.pop("samples", pool())
    made = composed(schedule, samples)
    return {
        "name": "tiny",
        "recipe": {"name": "tiny", "exports": [{"name": "parquet"}, {"name": "chat_jsonl"}]},
        "report": made.report,
        "sources": [
            {
                "name": "rows", "path": "/home/jo/secret place/rows.jsonl", "content": "0123456789abcdef",
                "domain": "law", "role": "target",
                "license": "from_row", "licenses": {"MIT": 8}, "seen": 13, "samples": 11, "kept": 8, "repaired": 3,
                "filtered": 1, "dropped": {"empty_answer": 2},
            }
        ],
        "knowledge": None,
        "schedule": schedule.model_dump(mode="json"),
        "pool": {"duplicates": {}},
        "key": "0123456789abcdef",
        "licenses": licenses_of(made.frame, samples),
        **changes,
    }  # fmt: skip


def front(text: str) -> dict[str, Any]:
    """Return the YAML front matter of a card."""
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def export(folder: Path, given: dict[str, Any]) -> str:
    """Write the export and its card and return the card."""
    with TemporaryDirectory() as aside:
        files = lay(Path(aside), composed(plan(), pool()).frame, pool())
        for exporter in EXPORTERS.values():
            exporter().write(*files, folder)
    text = card(**given)
    write_card(text, folder)
    return text


def test_the_hubs_libraries_read_the_front_matter(tmp_path: Path) -> None:
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    text = export(tmp_path, arguments())
    read = DatasetCard.load(tmp_path / "README.md")
    assert read.data.to_dict() == front(text)
    configs = MetadataConfigs.from_dataset_card_data(DatasetCardData(**front(text)))
    assert sorted(configs) == ["code", "law", "mix"]
    assert configs.get_default_config_name() == "mix"


def test_every_config_loads_with_the_rows_of_the_composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_dataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = arguments()
    text = export(tmp_path / "export", given)
    rows = composed(plan(), pool()).frame
    wanted = {"mix": len(rows), **{d: len(rows.filter(pl.col("domain") == d)) for d in ("law", "code")}}
    assert {config["config_name"] for config in front(text)["configs"]} == wanted.keys()
    for config, n in wanted.items():
        data = load_dataset(str(tmp_path / "export"), config, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(data) == n
        assert data[0]["messages"] == [{"role": "user", "content": "SECRET"}, {"role": "assistant", "content": "yes"}]
    default = load_dataset(str(tmp_path / "export"), split="train", cache_dir=str(tmp_path / "cache"))
    assert default["sample_id"][:] == rows["sample_id"].to_list()


def test_the_card_says_how_to_load_every_config() -> None:
    assert '"mix", split="train")  # or "code", "law"' in card(**arguments())


def test_a_lone_chat_file_loads_too(tmp_path: Path) -> None:
    from datasets import load_dataset

    given = arguments(recipe={"exports": ["chat_jsonl"]})
    export(tmp_path / "export", given)
    data = load_dataset(str(tmp_path / "export"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data["domain"][:] == composed(plan(), pool()).frame["domain"].to_list()


def test_configs_are_those_of_the_exporter_that_ran() -> None:
    only_chat = front(card(**arguments(recipe={"exports": [{"name": "chat_jsonl"}]})))["configs"]
    assert only_chat == [
        {"config_name": "chat", "data_files": [{"split": "train", "path": "chat/train.jsonl"}], "default": True}
    ]


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["MIT"] * 8, {"license": "mit"}),
        (["MIT", "CC-BY-4.0"] * 4, {"license": "other", "license_name": "mixed"}),
        (["PAWS licence (any purpose)"] * 8, {"license": "other", "license_name": "paws-licence-any-purpose"}),
    ],
)
def test_the_licence_is_that_of_the_rows(licenses: list[str], expected: dict[str, str]) -> None:
    samples = pool().with_columns(pl.Series("license", licenses))
    read = front(card(**arguments(samples=samples)))
    assert {k: v for k, v in read.items() if k.startswith("license")} == expected


def test_a_licence_of_rows_that_are_not_in_the_mix_does_not_count() -> None:
    used = composed(plan(), pool()).frame["sample_id"].to_list()
    samples = pool().with_columns(
        license=pl.when(pl.col("sample_id").is_in(used)).then(pl.lit("MIT")).otherwise(pl.lit("other"))
    )
    assert len(used) < len(samples)
    assert front(card(**arguments(samples=samples)))["license"] == "mit"


def test_planned_and_realised_shares_stand_side_by_side() -> None:
    given = arguments()
    by_domain = {account["domain"]: account for account in given["report"]["domains"]}
    lines = [line for line in card(**given).splitlines() if line.startswith(tuple(f"| {domain} | " for domain in DOMAINS))]
    shown = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert list(shown) == list(DOMAINS)
    for domain, cells in shown.items():
        account = by_domain[domain]
        assert cells[2:4] == [str(account["planned"]), str(account["realised"])]
        assert [cells[4], cells[6], cells[8]] == [str(account[count]) for count in ("rows", "tokens", "loss_tokens")]
        assert float(cells[1]) == pytest.approx(account["loss_tokens"] / 28, abs=1e-4)
    assert [cells[0] for cells in shown.values()] == ["0.2500", "0.5000", "0.2500"]
    assert "Composition `0123456789abcdef`" in card(**given)


def test_replay_is_shown_when_there_is_some_and_only_then() -> None:
    assert "## Phases and replay" not in card(**arguments())
    schedule = plan(current=("law", "empty"))
    given, n = arguments(schedule=schedule), composed(schedule, pool()).frame["is_replay"].sum()
    assert n
    assert f"| all | 28 | law, empty | 0.5000 | {n} | {10 * n} | {4 * n} |" in card(**given)


def test_drops_and_shortages_are_counted_by_reason() -> None:
    given = arguments(pool={"duplicates": {"other": {"duplicate": 5}}})
    text = card(**given)
    assert "| seen | kept | repaired | dropped |" in text
    assert "| target | MIT | 13 | 8 | 3 | 2 |" in text
    assert "| rows | empty_answer | 2 |" in text
    assert "| other | duplicate | 5 |" in text
    short = given["report"]["shortages"]
    assert "empty" in {entry["domain"] for entry in short}
    for entry in short:
        assert f"| all | {entry['domain']} | {entry['planned']} | {entry['available']} | {entry['moved']} |" in text
    assert "## Shortages" not in card(**{**given, "report": {**given["report"], "shortages": []}})


def test_the_probe_says_what_its_interval_does_not_cover() -> None:
    known = {
        "domains": ["law", "code"], "p": [0.7, 0.3], "stderr": [0.01, 0.01], "low": [0.68, 0.28], "high": [0.72, 0.32],
        "n": 1500, "rejected": 2, "accuracy": 0.987, "model": "/srv/models/base", "probe": "self_generation",
    }  # fmt: skip
    text = card(**arguments(knowledge=known))
    assert "| law | 0.7000 | 0.0100 | 0.6800 | 0.7200 |" in text
    assert "1,500 texts judged, 2 rejected. The judge's cross-validated accuracy is 0.987." in text
    assert "covers the sampling of texts and nothing else" in text
    assert "What the base model knew" not in card(**arguments())


def test_a_probe_that_says_what_it_does_not_cover_is_cited() -> None:
    known = {
        "domains": ["law", "code"], "p": [0.7, 0.3], "stderr": [0.01, 0.01], "low": [0.68, 0.28], "high": [0.72, 0.32],
        "low_with_judge": [0.65, 0.25], "high_with_judge": [0.75, 0.35], "n": 1500, "rejected": 2, "accuracy": 0.987,
        "begun_with": "bos_token <script>", "note": "Neither covers <b>the rest</b>, see /srv/models/base.", "probe": "x",
    }  # fmt: skip
    text = card(**arguments(knowledge=known))
    assert "| law | 0.7000 | 0.0100 | 0.6800 | 0.7200 | 0.6500 | 0.7500 |" in text
    assert "Every text began with bos_token &lt;script&gt;." in text
    assert "Neither covers &lt;b&gt;the rest&lt;/b&gt;, see base." in text
    assert "nothing else" not in text


def test_nothing_from_outside_breaks_a_table_or_renders() -> None:
    given = arguments(name=EVIL)
    given["sources"][0] |= {"revision": EVIL, "license": EVIL, "dropped": {EVIL: 1}}
    text = card(**given)
    body = text.split("---\n", 2)[2].split("## Recipe")[0]
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\[a", body)
    assert not re.search(r"(?<!\\)\*\*b", body)
    for block in re.findall(r"(?:^\|.*\n)+", body, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert front(text)["pretty_name"] == EVIL


def test_no_row_and_no_path_of_a_machine_enters() -> None:
    recipe = {
        "exports": [{"name": "parquet"}],
        "base_model": {"path": "/srv/models/base"},
        "note": "/home/jo/my data/law.jsonl",
        "store": "C:\\Users\\jo\\store",
        "hub": "https://huggingface.co/org/name",
    }
    text = card(**arguments(recipe=recipe))
    for secret in ("SECRET", "/home", "/srv", "jo", "Users", "secret place"):
        assert secret not in text
    assert "| rows | 0123456789ab | law |" in text
    assert "https://huggingface.co/org/name" in text


def test_a_fence_in_the_recipe_does_not_close_the_block() -> None:
    text = card(**arguments(recipe={"exports": [{"name": "parquet"}], "note": "```\n# not a heading"}))
    block = text.split("## Recipe\n\n")[1]
    assert block.startswith("````yaml\n")
    assert block.rstrip().endswith("\n````")


@pytest.mark.parametrize(("n", "expected"), [(1, "n<1K"), (9_999, "1K<n<10K"), (10_000, "10K<n<100K"), (10**8, "n>100M")])
def test_size_categories(n: int, expected: str) -> None:
    assert size_category(n) == expected


def test_the_lock_and_the_citations_stand_at_the_end() -> None:
    lock = {"sources": {"rows": "a" * 64}, "artifacts": {"composition/0123456789abcdef": {"version": 3}}}
    text = card(**arguments(lock=lock, citations=[("law", "uniform", "by hand")]))
    assert text.index("## Recipe") < text.index("## Lock") < text.index("## Citations")
    assert text.endswith("- `law: uniform`: by hand\n")


def test_the_same_arguments_give_the_same_card() -> None:
    assert card(**arguments()) == card(**arguments())
