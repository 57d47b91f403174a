"""A BERT small enough for unit tests, and texts it can learn from. Everything is made here, from nothing."""

from __future__ import annotations

import csv
import random
from pathlib import Path

GOOD = ("good", "great", "lovely", "bright", "fine")
BAD = ("bad", "poor", "awful", "dull", "grim")
OTHER = ("the", "film", "book", "food", "was", "and", "very", "a", "of", "it", "this", "song", "play")
REGIONS = ("north", "south", "east", "west")


def write_tiny_base(folder: Path, architecture: str = "bert") -> Path:
    """Write a randomly initialised model of the given kind, with a word tokenizer, in Hugging Face format."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *OTHER]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    size = {"distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}}.get(
        architecture,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    )
    config = AutoConfig.for_model(
        architecture, vocab_size=len(words), max_position_embeddings=66, pad_token_id=0, cls_token_id=2,
        sep_token_id=3, bos_token_id=2, eos_token_id=3, **size,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than BERT's 0.02, so that tiny models have gradients
            if parameter.dim() > 1:
                parameter.mul_(5)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    fast.save_pretrained(folder)
    return folder


def tiny_rows(rows: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Rows of (text, label, region): a text with a good word is positive, with a bad one negative."""
    chooser = random.Random(seed)
    made = []
    for _ in range(rows):
        positive = chooser.random() < 0.5
        words = [chooser.choice(OTHER) for _ in range(chooser.randint(2, 8))]
        words.insert(chooser.randrange(len(words) + 1), chooser.choice(GOOD if positive else BAD))
        made.append((" ".join(words), "positive" if positive else "negative", chooser.choice(REGIONS)))
    return made


def write_tiny_data(path: Path, rows: int = 400, seed: int = 0) -> Path:
    """Write :func:`tiny_rows` as CSV with the columns text, label, region."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "region"])
        writer.writerows(tiny_rows(rows, seed))
    return path


def tiny_study_text(base: Path, data: Path, **sections: str) -> str:
    """TOML of a small, quick study; ``sections`` adds lines to a section by its name."""
    lines = {
        "study": 'name = "tiny"\nseed = 3\n',
        "task": 'labels = ["negative", "positive"]\nmax_length = 16\n',
        "model": f'base = "{base}"\ntrainable = "lora"\nwarm_start_steps = 2\nwarm_start_rounds = 1\n'
        "warm_start_learning_rate = 1.0\nlora_rank = 2\n",
        "data": f'source = "{data}"\npartition = "column"\ncolumn = "region"\nsites = 4\n'
        "validation_fraction = 0.1\ntest_fraction = 0.2\n",
        "privacy": "batch_size = 8\nepsilon = 8.0\n",
        "federation": "rounds = 2\nsteps_per_round = 2\nmin_sites = 2\n",
        "training": 'learning_rate = 0.5\nphysical_batch_size = 4\ndevice = "cpu"\nprecision = "float32"\n',
        "simulation": "workers = 2\n",
    }
    return _toml(lines, sections)


def _toml(lines: dict[str, str], more: dict[str, str]) -> str:
    for name, added in more.items():
        lines[name] = lines.get(name, "") + added + "\n"
    return "\n".join(f"[{name}]\n{body}" for name, body in lines.items())


def tiny_policy_text(name: str, declared_size: int, trainable: str = '["lora"]', **sections: str) -> str:
    """TOML of a site's policy for tiny studies; ``sections`` adds lines to a section by its name."""
    lines = {
        "site": f'name = "{name}"\n',
        "dataset": 'name = "letters"\nunit = "example"\none_row_per_person = true\n'
        f"declared_size = {declared_size}\n",
        "budget": "",
        "allow": f'models = ["*"]\ntrainable = {trainable}\nmin_noise_multiplier = 0.1\n',
        "disclose": 'labels = ["negative", "positive"]\n',
    }
    return _toml(lines, sections)


def tiny_sentences(rows: int, seed: int = 0) -> list[tuple[list[str], list[str], str]]:
    """Rows of (words, tags, region): a good word is a thing, and the one after it belongs to it."""
    chooser = random.Random(seed)
    made = []
    for _ in range(rows):
        words = [chooser.choice(OTHER) for _ in range(chooser.randint(2, 8))]
        place = chooser.randrange(len(words))
        tags = ["O"] * len(words)
        words[place], tags[place] = chooser.choice(GOOD), "B-THING"
        if place + 1 < len(words):
            tags[place + 1] = "I-THING"
        made.append((words, tags, chooser.choice(REGIONS)))
    return made


def write_tiny_sentences(path: Path, rows: int = 400, seed: int = 0) -> Path:
    """Write :func:`tiny_sentences` as JSONL with the keys tokens, tags, region."""
    import json

    lines = [
        json.dumps({"tokens": words, "tags": tags, "region": region})
        for words, tags, region in tiny_sentences(rows, seed)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
