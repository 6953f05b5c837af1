"""Tokens a second of steered generation against transformers' own ``generate``, on equal batches.

    python benchmarks/generation.py [--model NAME_OR_FOLDER] [--dictionary FOLDER_OR_NAME] [--layer L] [--batch 32] [--new-tokens 64]
        [--repeats 5] [--device D] [--dtype T]

Both decode the same left-padded prompts greedily, exactly ``--new-tokens`` tokens a row (the end of the text is ruled out until then). Ours
also clamps a different feature of the dictionary in each row, at every token; without a dictionary it adds a different vector in each row.
transformers edits nothing. The two run in turn; the ratio of the medians is printed (the aim is at least 0.9).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from activations import seconds  # the script beside this one

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.interventions import Edit, Site
from harness.model import SubjectModel, load_model
from harness.steering.add_vector import AddVector
from harness.types import Decoding, rng

OPENINGS = (
    "Name three things that one sees in a harbour.",
    "How do I keep bread fresh for longer?",
    "Write a short letter to a friend who has moved to another town, and ask how the new school is.",
    "Explain in a few words why the sky turns red in the evening.",
    "My bicycle makes a grinding noise whenever I change gears uphill. What could be the cause, and what should I look at first?",
)


def make_edits(model: SubjectModel, layer: int | None, dictionary: str | None, rows: int) -> list[Edit]:
    """One edit a row, all different; small ones, since only the time counts."""
    random = rng(0, "benchmark")
    if dictionary is None:
        site = Site(model.n_layers // 2 if layer is None else layer)
        vectors = torch.from_numpy(random.standard_normal((rows, model.d_model))).float()
        return [AddVector(site, vector / vector.norm()) for vector in vectors]
    from harness import sae
    from harness.steering.clamp import ClampFeature

    loaded = sae.load(dictionary, device=str(model.device))
    features = random.choice(loaded.d_sae, rows, replace=rows > loaded.d_sae).tolist()
    return [ClampFeature(Site(loaded.layer if layer is None else layer), loaded, int(j), 1.0) for j in features]


def runners(model: SubjectModel, args: argparse.Namespace) -> tuple[Callable[[], None], Callable[[], None]]:
    """Ours and transformers', each a function that decodes the whole batch once."""
    prompts = [model.prompt(OPENINGS[row % len(OPENINGS)]) for row in range(args.batch)]
    edits = make_edits(model, args.layer, args.dictionary, args.batch)
    requests = [
        GenerationRequest(str(row), prompt, seed=0, edits=(edit,)) for row, (prompt, edit) in enumerate(zip(prompts, edits, strict=True))
    ]
    decoding = Decoding(max_new_tokens=args.new_tokens, min_new_tokens=args.new_tokens, temperature=0.0)
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.full((args.batch, width), model.pad_id)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    plain_options: dict[str, Any] = {
        "do_sample": False, "max_new_tokens": args.new_tokens, "min_new_tokens": args.new_tokens, "pad_token_id": model.pad_id,
        "eos_token_id": sorted(model.eos_ids) or None,
    }  # fmt: skip

    def ours() -> None:
        for text in TorchEngine(model, batch_size=args.batch).run(requests, decoding):
            assert text.n_tokens == args.new_tokens

    def plain() -> None:
        out = model.hf.generate(tokens, attention_mask=mask, **plain_options)
        assert out.shape[1] == width + args.new_tokens

    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dictionary", help="an SAE of the model (without one, vectors are added)")
    parser.add_argument("--layer", type=int, help="where to edit (the dictionary's layer, or the middle)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    ours, plain = runners(model, args)
    plain()  # warm up
    ours()
    times = [(seconds(ours, model.device), seconds(plain, model.device)) for _ in range(args.repeats)]
    speeds = [args.batch * args.new_tokens / statistics.median(column) for column in zip(*times, strict=True)]
    kind = "clamps" if args.dictionary else "added vectors"
    print(f"{model!r}, {args.batch} rows × {args.new_tokens} new tokens, {torch.get_num_threads()} threads, median of {args.repeats}")
    print(f"steered ({kind}) {speeds[0]:,.0f} tokens/s, plain generate {speeds[1]:,.0f} tokens/s, ratio {speeds[0] / speeds[1]:.3f}")


if __name__ == "__main__":
    main()
