"""Judging texts: a language model by one prefill against sixteen tokens of free text, and what the classifier takes of a probe.

A tiny random model whose output rows for the six letters are larger than the others, so that it answers by letter at all; both
sides get the same prompts on the same engine. Where the free text begins with a letter both must name the same domain; where it
does not, that side has lost the text. The shots are the same for all texts.

The classifier's shares are of the seconds that sampling the texts took from the same model; what it learns, it learns six
times, five of them for its accuracy.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _harness import QUICK, Ratio, cpu_seconds, tell

from composer.train.isolated import isolated
from composer.train.tokenizer import learn
from composer.types import ModelRef
from flows.demo.world import DOMAINS, World
from probes.engines import ENGINES, Session
from probes.knowledge.judges.classifier import Classifier
from probes.knowledge.judges.prompt import Prompt, build

N, SAMPLES, REFERENCES, REPEATS = (24, 60, 20, 2) if QUICK else (200, 1000, 200, 5)
NEW, MAX_CHARS = 16, 300


def main() -> None:
    """Make the model, judge both ways, and sample texts for the classifier."""
    world = World()
    references = [(text, domain) for domain in DOMAINS for text in dict.fromkeys(world.documents(domain, REFERENCES, seed=1))]
    texts = [text[:MAX_CHARS] for i in range(N) for text in world.documents(DOMAINS[i % len(DOMAINS)], i // 6 + 1, seed=2)[-1:]]
    with tempfile.TemporaryDirectory() as folder, isolated(0, threads=1):
        write_model(Path(folder), [text for text, _ in references])
        with ENGINES["hf"]().open(ModelRef(path=folder, chat_template="plain")) as session:
            shots = [(world.documents(domain, 1, seed=3)[0], domain) for domain in DOMAINS]
            prompt = build(session.tokenizer, domains=DOMAINS, shots=shots)
            prompts, _ = prompt.around(texts, tokenizer=session.tokenizer, most=2000)
            speed, equal, n_lost = judged_both_ways(session, prompt, prompts)
            judging, learning = shares_of_probe(session, references)
    sizes = {"texts": N, "prompt_tokens": sum(map(len, prompts)), "new_tokens": NEW, "lost_by_free_text": n_lost,
             "samples": SAMPLES, "references": len(references)}  # fmt: skip
    ratios = [
        Ratio("texts a second, one token over free text", statistics.median(speed), 5.0, "higher", len(speed)),
        Ratio("classifier, judging over sampling", statistics.median(judging), 0.05, "lower", len(judging)),
        Ratio("classifier, learning over sampling", statistics.median(learning), 0.05, "lower", len(learning)),
    ]
    tell("judge", ratios, equal=equal, sizes=sizes)


def write_model(folder: Path, texts: Sequence[str]) -> None:
    """Write a random Llama of the size of the tiny world's base."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = learn(texts, vocab=1280)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        initializer_range=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    letters = [i for token, i in tokenizer.get_vocab().items() if token.removeprefix("Ġ") in tuple("ABCDEF")]
    with torch.no_grad():
        model.lm_head.weight[letters] *= 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def judged_both_ways(session: Session, prompt: Prompt, prompts: list[list[int]]) -> tuple[list[float], bool, int]:
    """Return the ratios of speed, whether the domains agree where free text names one, and how often it names none."""
    ratios, equal, lost = [], True, 0
    for i in range(REPEATS):
        slow, made = cpu_seconds(lambda: session.complete(prompts, max_new_tokens=NEW, temperature=0.0, seed=0))
        fast, weighed = cpu_seconds(lambda: session.choose(prompts, prompt.choices))
        pairs = zip((each.ids[0] for each in made), weighed.argmax(axis=1), strict=True)
        named = [said == prompt.choices[chosen] for said, chosen in pairs if said in prompt.choices]
        equal, lost = equal and bool(named) and all(named), len(prompts) - len(named)
        ratios.append(slow / fast)
        print(f"judge {i + 1}: one token {fast:.2f} s, free text {slow:.2f} s, ratio {ratios[-1]:.2f}", file=sys.stderr)
    return ratios, equal, lost


def shares_of_probe(session: Session, references: Sequence[tuple[str, str]]) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of judging, and of learning to, over those of sampling the texts that are judged."""
    begin = [[session.tokenizer.bos_token_id]] * SAMPLES
    known, labels = zip(*references, strict=True)
    spec = Classifier()
    spec.fit(known, labels, domains=DOMAINS, seed=0)  # imports are not the question
    judging, learning = [], []
    for i in range(min(REPEATS, 3)):
        seconds, made = cpu_seconds(lambda: session.complete(begin, max_new_tokens=128, seed=i))  # noqa: B023
        learnt, judge = cpu_seconds(lambda: spec.fit(known, labels, domains=DOMAINS, seed=0))
        judged, _ = cpu_seconds(lambda: judge.probabilities([each.text for each in made]))  # noqa: B023
        judging.append(judged / seconds)
        learning.append(learnt / seconds)
        print(f"judge {i + 1}: sampling {seconds:.2f} s, learning {learnt:.2f} s, judging {judged:.3f} s", file=sys.stderr)
    return judging, learning


if __name__ == "__main__":
    main()
