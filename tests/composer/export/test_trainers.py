"""Exports for trainers: configs that load, weights in each trainer's meaning, and TRL itself reading what was written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from composer.errors import InputError, SpecError
from composer.export import EXPORTERS, Trainer
from composer.export.base import TrainedOn
from composer.export.prove import prove
from tests.composer.export.mixes import (
    TRAINERS,
    WEIGHING,
    composition,
    files_of,
    lay,
    planned,
    read_drawn,
    samples,
    whole_of,
)

ORDER = [5, 0, 3, 2, 11, 8, 2, 0, 7, 0, 9, 1, 4, 6, 10]
for_trainers = pytest.mark.parametrize("name", TRAINERS)
weighing = pytest.mark.parametrize("name", WEIGHING)


def made(name: str, folder: Path, *, order: list[int] = ORDER, how: TrainedOn | None = None, **fields: Any) -> Trainer:
    """Export a small mix for a trainer into ``folder``; its tables lie in ``folder/in``."""
    exporter = EXPORTERS[name](**fields)
    assert isinstance(exporter, Trainer)
    pool = samples().with_columns(extras=pl.lit(None, pl.String))
    exporter.write(*lay(folder / "in", pool, composition(pool, order)), folder, how=how or TrainedOn())
    return exporter


def config(exporter: Trainer, folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = (folder / exporter.home).glob("*.yaml")
    return path, yaml.safe_load(path.read_text(encoding="utf-8"))


def change(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@for_trainers
def test_a_config_says_how_long_rows_are_and_what_is_trained_on(name: str, tmp_path: Path) -> None:
    texts = []
    for loss_on in ("all", "last"):
        exporter = made(name, tmp_path / loss_on, how=TrainedOn(777, loss_on))  # type: ignore[arg-type]
        path, _ = config(exporter, tmp_path / loss_on)
        texts.append(path.read_text(encoding="utf-8"))
        assert "777" in texts[-1]
        assert texts[-1].startswith("# ")
    assert texts[0] != texts[1]


@for_trainers
def test_rows_carry_the_mix_exactly(name: str, tmp_path: Path) -> None:
    exporter = made(name, tmp_path)
    found = prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0.0)
    assert found["holds"]
    assert found["rows"] == {"planned": len(ORDER), "realised": len(ORDER)}


@weighing
def test_weights_carry_every_row_once_and_nearly_the_shares(name: str, tmp_path: Path) -> None:
    exporter = made(name, tmp_path, carry="weights")
    files = files_of(exporter, tmp_path)
    assert set(files) == {f"data/{domain}{exporter.suffix}" for domain in ("law", "code")}
    pool = samples().with_columns(extras=pl.lit(None, pl.String))
    once = planned(pool, list(dict.fromkeys(ORDER)))
    assert sorted(map(str, once)) == sorted(str(whole_of(row)) for rows in files.values() for row in rows)
    drawn = Counter(row["domain"] for row in read_drawn(exporter, tmp_path))
    wanted = Counter("code" if i % 2 else "law" for i in ORDER)
    found = prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0.2)
    assert found["holds"]
    if name not in ("trl", "llama_factory"):  # one repeats nothing, the other draws by chance
        assert drawn == wanted
    assert set(drawn) == set(wanted)


@weighing
def test_a_proof_fails_over_its_tolerance(name: str, tmp_path: Path) -> None:
    exporter = made(name, tmp_path, carry="weights")
    path, values = config(exporter, tmp_path)
    if name == "trl":
        values["datasets"][0]["fraction"] = 0.9
    elif name == "llama_factory":
        values["interleave_probs"] = "0.9,0.1"
    elif name == "ms_swift":
        values["dataset"][0] = "data/code.jsonl#90"
    elif name == "oumi":
        values["data"]["train"]["datasets"][0]["sample_count"] = 90
    elif name == "open_instruct":
        values["dataset_mixer_list"][1] = "1"  # one row, where 1.0 would be all
    else:
        values["train_loader"]["dataset"]["streams"]["code"]["choose"] = 90
    change(path, values)
    found = prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0.05)
    assert not found["holds"]
    assert found["off_by"] > 0.05
    shares = [share for each in found["domains"].values() for share in each.values()]
    assert found["off_by"] == max(abs(share["planned"] - share["realised"]) for share in shares)


@for_trainers
def test_a_file_that_is_not_of_the_export_is_refused(name: str, tmp_path: Path) -> None:
    exporter = made(name, tmp_path)
    path, _ = config(exporter, tmp_path)
    path.write_text(path.read_text().replace("train.jsonl", "other.jsonl").replace("dataset: train", "dataset: other")
                    .replace("local: train", "local: other"))  # fmt: skip
    with pytest.raises(InputError, match=r"names a file that is not of the export; .*got other"):
        prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0)
    path.unlink()
    with pytest.raises(InputError, match="a config that cannot be read"):
        prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0)


def test_weights_and_who_shuffles_cannot_carry_phases(tmp_path: Path) -> None:
    pool = samples()
    rows = pl.concat([composition(pool, [1, 2]), composition(pool, [3], phase=1)])
    files = lay(tmp_path / "in", pool, rows.with_columns(position=pl.int_range(3, dtype=pl.UInt64)))
    for name in WEIGHING:
        with pytest.raises(SpecError, match=f"exports.{name}: weights cannot say what comes first; got 2 phases"):
            EXPORTERS[name](carry="weights").write(*files, tmp_path / "out")
    with pytest.raises(SpecError, match="open_instruct shuffles what it reads"):
        EXPORTERS["open_instruct"]().write(*files, tmp_path / "out")
    EXPORTERS["trl"]().write(*files, tmp_path / "out")


def test_axolotl_has_no_weights_and_must_not_remove_repeats(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="carry: input should be 'rows'"):
        EXPORTERS["axolotl"](carry="weights")
    exporter = made("axolotl", tmp_path)
    path, values = config(exporter, tmp_path)
    change(path, {**values, "dataset_exact_deduplication": True})
    with pytest.raises(InputError, match="repeated rows would be removed"):
        prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0)


@weighing
def test_a_domain_whose_file_would_be_hidden_is_refused(name: str, tmp_path: Path) -> None:
    pool = samples(domains=(".law", "code"))
    with pytest.raises(SpecError, match=r"domain: a domain that cannot be exported; .*got .law"):
        EXPORTERS[name](carry="weights").write(*lay(tmp_path / "in", pool, composition(pool, [0, 1])), tmp_path)


@weighing
def test_one_domain_alone_needs_no_weights_and_keeps_its_rows(name: str, tmp_path: Path) -> None:
    exporter = made(name, tmp_path, carry="weights", order=[1, 3, 5])
    assert Counter(row["messages"][1]["content"] for row in read_drawn(exporter, tmp_path)) == {
        f"answer {i}": 1 for i in (1, 3, 5)
    }


def test_on_the_hub_llama_factory_reads_its_entries_from_there(tmp_path: Path) -> None:
    exporter = made("llama_factory", tmp_path, carry="weights", hub="acme/mix")
    home = tmp_path / exporter.home
    info = json.loads((home / "dataset_info.json").read_text())
    assert info["law"]["hf_hub_url"] == "acme/mix"
    assert info["law"]["subset"] == "law"
    assert config(exporter, tmp_path)[1]["dataset_dir"] == "REMOTE:acme/mix"
    front = yaml.safe_load((home / "README.md").read_text().split("---")[1])
    assert all((home / each["data_files"][0]["path"]).is_file() for each in front["configs"])
    assert prove(exporter, tmp_path, tmp_path / "in/composition.parquet", tolerance=0.2)["holds"]


@pytest.mark.parametrize("carry", ["rows", "weights"])
def test_trl_draws_what_the_rule_says(carry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.scripts.utils import DatasetMixtureConfig, get_dataset

    exporter = made("trl", tmp_path, carry=carry)
    monkeypatch.chdir(tmp_path / "trl")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    _, values = config(exporter, tmp_path)
    rows = get_dataset(DatasetMixtureConfig(datasets=values["datasets"]))["train"]
    assert [row["messages"] for row in rows] == [row["messages"] for row in read_drawn(exporter, tmp_path)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # what TRL says to transformers
def test_trl_trains_on_the_rows_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser
    from trl.scripts.utils import DatasetMixtureConfig, get_dataset

    exporter = made("trl", tmp_path)
    monkeypatch.chdir(tmp_path / "trl")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    given = ["--config", "sft.yaml", "--use_cpu", "true", "--bf16", "false", "--per_device_train_batch_size", "2"]
    given += ["--report_to", "none"]
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    _, training, _, mixture = parser.parse_args_and_config(args=given)
    base = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    base.pre_tokenizer, base.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<end>{% endgeneration %}"
        "{% else %}{{ m['content'] }}|{% endif %}{% endfor %}"
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    trainer = SFTTrainer(
        model=model, args=training, train_dataset=get_dataset(mixture)["train"], processing_class=tokenizer
    )  # fmt: skip
    seen = [row for batch in trainer.get_train_dataloader() for row in batch["labels"]]
    answers = [tokenizer.decode(row[row >= 0]) for row in seen]
    assert answers == [row["messages"][1]["content"] + "<end>" for row in read_drawn(exporter, tmp_path)]


def test_an_export_of_shards_alone_has_a_card_without_configs() -> None:
    from composer.export.card import _configs, _load

    assert _configs({"exports": ["streaming"]}, ["law"]) == []
    assert _configs({"exports": ["streaming", "trl"]}, ["law"])[0]["config_name"] == "trl"
    assert _load(_configs({"exports": [{"name": "trl", "carry": "weights"}]}, ["law", "code"]))
