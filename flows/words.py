"""Words of a recipe for the shell's completion: its fields, and the words that each may have.

They stand here so that a press of the tab key imports nothing heavy; a test compares them with the recipe and its families.
"""

from __future__ import annotations

FIELDS: dict[str, tuple[str, ...]] = {
    "name": (), "seed": (), "root": (), "store": (), "base_model": (), "base_model.path": (), "only": (), "domains": (),
    "sources": (), "max_length": (), "loss_on": ("all", "last"), "dedup": ("exact", "near", "semantic"), "decontaminate": (),
    "max_dropped": (), "holdout": (), "engine": ("hf", "openai", "vllm"), "embed": ("lexical", "sentence_transformer"),
    "tags": ("keyphrase", "llm"), "probe": ("self_generation", "perplexity", "cloze"), "probe.samples": (),
    "distance": ("wasserstein", "subsampled"),
    "law": ("uniform", "proportional", "temperature", "explicit", "knowledge", "inverse"),
    "replay": ("none", "padding", "random", "stratified", "spread", "distance", "coverage", "interference", "loss"),
    "select": ("uniform", "instruction", "spread", "prototype_data", "prototype_instruction", "diverse", "top"),
    "replay_select": ("uniform", "instruction", "spread", "prototype_data", "prototype_instruction", "diverse", "top"),
    "coverage": (), "cluster": ("kmeans", "density"), "sequence": (),
    "sequence_order": ("given", "curriculum", "reverse", "random"), "upper_bounds": (), "budget": (), "budget.amount": (),
    "budget.unit": ("loss_tokens", "tokens", "samples"), "budget.max_repeats": (),
    "exports": (
        "parquet", "chat_jsonl", "trl", "axolotl", "llama_factory", "ms_swift", "oumi", "open_instruct", "streaming",
    ),
    "license_conflicts": ("stop", "allow"), "train": (), "train.epochs": (), "train.batch_size": (), "train.learning_rate": (),
    "train.adapter": ("full", "lora", "loramoe", "lota", "mola", "osf", "shira"),
    "train.law": ("potential", "expansion", "bandit", "excess", "progress", "levels"), "evaluate": (), "flow": (),
    "runner": ("thread", "process", "ray", "dask"), "trial": (),
}  # fmt: skip


def override_words(incomplete: str) -> list[str]:
    """Return what a ``key=value`` may be that begins so: fields with their sign, or the words of the field.

    Examples
    --------
    >>> override_words("loss")
    ['loss_on=']
    >>> override_words("loss_on=l")
    ['loss_on=last']
    """
    key, sign, _ = incomplete.partition("=")
    found = [f"{key}={word}" for word in FIELDS.get(key, ())] if sign else [f"{field}=" for field in FIELDS]
    return [word for word in found if word.startswith(incomplete)]
