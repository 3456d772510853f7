"""Chat templates of the field, a tokenizer for each, and conversations to put through them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from composer.conversation import extras_of, whole
from composer.encode import PLAIN_TEMPLATE

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (  # refuses a system turn and turns that do not alternate
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA2 = (  # takes a system turn first, no tools, and passes over any other role without a word
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}{% for m in loop_messages %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}{{ m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
QWEN3 = (  # thinking of turns before the last question is left out; a last turn without thinking has an empty one; knows tools
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}{{ '</s>\n' }}"
    "{% endif %}{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' }}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '\n</tool_call>' }}{% endfor %}{{ '</s>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response></s>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '</s>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPPING = (  # drops earlier assistant turns altogether
    "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}"
    "{{ m['role'] + ':' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
REWRITING = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ 'now:' }}{% endif %}"
REFUSING = "{{ raise_exception('roles must alternate') }}"
TEMPLATES = {"chatml": CHATML, "plain": PLAIN_TEMPLATE, "gemma": GEMMA, "llama2": LLAMA2, "qwen3": QWEN3}


def tokenizer(template: str | None) -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>", "<pad>", "<|im_start|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)  # fmt: skip
    inner.train_from_iterator(["what is the answer to the question", "the answer is law"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = template
    return made


CHAT = {name: tokenizer(template) for name, template in TEMPLATES.items()}


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    str.strip
)
raw = st.text(alphabet=st.sampled_from(" \n\t\r.aé—x</s>#'1<|"), max_size=12)
talks = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), raw | words), min_size=1, max_size=6)

SYSTEM = said(("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"))
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]
CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": '{"town": "Bär"}'}}
TALK = said(("user", "Rain?"), ("assistant", ""), ("tool", "4"), ("assistant", "Yes, 4 mm."))
CALLING = whole(TALK, extras_of({1: {"tool_calls": [CALL]}, 2: {"tool_call_id": "c1"}}, TOOLS))
THOUGHTFUL = whole(TALK, extras_of({1: {"tool_calls": [CALL], "thinking": "I must ask."}}, TOOLS))
