# Copyright 2026 The transformers-crossvit authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""
Measures how far this package is from timm, for every published architecture, and writes the table of docs/parity.md.

    python -m benchmarks.parity          about 3 minutes on two CPU cores

Both models get the same random weights. The weights are as large as those of trained models, because after an initialisation all
values are near zero and would hide differences. Expected: logits that differ by less than 1e-6 of the largest logit. The limits
stand below, and tests/modeling_crossvit/test_parity.py applies them to the same measurements.
"""

import warnings

import timm
import torch
import transformers
from tqdm import tqdm

from benchmarks.measurements import measured_by
from benchmarks.pages import fill, table
from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, convert_checkpoint
from crossvit.weights.checkpoints import to_timm_state_dict


# Largest allowed differences, relative to the largest value of the tensor.
# Forward pass: float32 rounds by up to 6e-8. The sums here have up to 3072 terms, a fused kernel adds them in another order, and the
# roundings of 12 to 21 layers accumulate.
FORWARD = dict.fromkeys(
    (
        *(
            f"{what} {attention}"
            for attention in ("eager", "sdpa")
            for what in ("logits", "small tokens", "large tokens")
        ),
        "cross-attention",
    ),
    5e-6,
)
LIMITS = {
    "parameters": 0.0,
    **FORWARD,
    # The gradient of a query or key weight is a difference of nearly equal sums over all tokens, and this difference costs float32
    # three digits. float64 has 9 more digits, so it shows that both models compute the same function.
    "gradients": 1e-4,
    "gradients float64": 1e-10,
    # The rounding differences of each step change the weights from which the next step starts.
    "losses": 1e-4,
}

TRAINING_STEPS = 20


def randomize_(model: torch.nn.Module, seed: int = 0):
    """
    Fills the model with random weights like those of trained models: each layer keeps the size of its input, and no LayerNorm or bias
    is the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "cls_token" in name or "pos_embed" in name:
                parameter.normal_(0, 0.5, generator=generator)
            elif parameter.ndim >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif name.endswith("weight"):  # of a LayerNorm
                parameter.normal_(1, 0.2, generator=generator)
            else:
                parameter.normal_(0, 0.2, generator=generator)


def relative_difference(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference, divided by the largest absolute value of the reference."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def timm_model(variant: str, **kwargs) -> torch.nn.Module:
    """
    timm's model of this name with random weights; the same call gives the same weights. timm's own initialisation is left out, because
    it takes longer than all else here.
    """
    with torch.device("meta"):
        model = timm.create_model(variant, **kwargs).eval()
    model.to_empty(device="cpu")
    randomize_(model)
    return model


def random_images(variant: str, batch_size: int, shrink: int = 1) -> torch.Tensor:
    """Noise in the input size of the variant, or in a `shrink`-th of it."""
    size = timm.get_pretrained_cfg(variant).input_size[-1] // shrink
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))


def timm_outputs(model: torch.nn.Module, pixel_values: torch.Tensor):
    """timm's logits, the final tokens of both branches, and all cross-attentions. Hooks catch these before their dropout."""
    cross_attentions = []
    hooks = [
        fusion.attn.attn_drop.register_forward_hook(lambda module, args, output: cross_attentions.append(args[0]))
        for block in model.blocks
        for fusion in block.fusion
    ]
    with torch.no_grad():
        tokens = model.forward_features(pixel_values)
        logits = model.forward_head(tokens)
    for hook in hooks:
        hook.remove()
    return logits, tokens, cross_attentions


def measure_forward(
    reference: torch.nn.Module, model: CrossViTForImageClassification, variant: str
) -> dict[str, float]:
    """The relative differences of the logits and of the final tokens, with eager attention and SDPA, and of the cross-attentions."""
    pixel_values = random_images(variant, batch_size=1)
    logits, tokens, cross_attentions = timm_outputs(reference, pixel_values)
    differences = {}
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        with torch.no_grad():
            base_outputs = model.crossvit(pixel_values, output_hidden_states=True)
            differences[f"logits {attention}"] = relative_difference(
                model.classifier(base_outputs.pooler_output), logits
            )
        for branch, expected in zip(("small", "large"), tokens):
            ours = base_outputs.branch_hidden_states[branch == "large"]
            differences[f"{branch} tokens {attention}"] = relative_difference(ours, expected)
    with torch.no_grad():
        ours = model(pixel_values, output_attentions=True).cross_attentions
    assert len(ours) == len(cross_attentions)
    differences["cross-attention"] = max(map(relative_difference, ours, cross_attentions))
    return differences


def measure_gradients(reference: torch.nn.Module, model: CrossViTForImageClassification, variant: str) -> float:
    """The largest relative difference over the gradients of all parameters, in train mode and in the dtype of the models."""
    dtype = next(reference.parameters()).dtype
    pixel_values, labels = random_images(variant, batch_size=1).to(dtype), torch.tensor([3])
    reference.train(), model.train()
    torch.nn.functional.cross_entropy(reference(pixel_values), labels).backward()
    model(pixel_values, labels=labels).loss.backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    ours = to_timm_state_dict(model, {name: parameter.grad for name, parameter in model.named_parameters()})
    assert ours.keys() == expected.keys()
    reference.zero_grad(), model.zero_grad()
    reference.eval(), model.eval()

    def scale(name: str) -> torch.Tensor:
        # A bias shifts all keys alike, and the softmax ignores such a shift. The gradient of this bias is zero up to rounding, so it is
        # compared with the size of the weight's gradient.
        return expected[name.replace("wk.bias", "wk.weight")].abs().max()

    return max(((ours[name] - expected[name]).abs().max() / scale(name)).item() for name in expected)


def measure_training(variant: str) -> float:
    """
    The largest difference of the losses of 20 AdamW steps, divided by the largest loss. Both models draw their stochastic depth from the
    same seed. The images have half the usual size, which saves time and leaves the layers as they are; timm takes no smaller ones.
    """
    pixel_values, labels = random_images(variant, batch_size=1, shrink=2), torch.tensor([3])
    reference = timm_model(variant, img_size=pixel_values.shape[-1], drop_path_rate=0.1, num_classes=10)
    image_sizes = [height for height, _ in reference.img_size_scaled]
    config = CrossViTConfig.from_variant(variant, image_sizes=image_sizes, num_labels=10, drop_path_rate=0.1)
    model = convert_checkpoint(reference, config=config)
    losses = {"reference": [], "ours": []}
    for name, trained, loss_of in (
        ("reference", reference, lambda: torch.nn.functional.cross_entropy(reference(pixel_values), labels)),
        ("ours", model, lambda: model(pixel_values, labels=labels).loss),
    ):
        trained.train()
        optimizer = torch.optim.AdamW(trained.parameters(), lr=2e-5, fused=True)
        torch.manual_seed(0)
        for _ in range(TRAINING_STEPS):
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    assert losses["reference"][-1] < losses["reference"][0] / 2, "the reference did not learn, so nothing was compared"
    return relative_difference(torch.tensor(losses["ours"]), torch.tensor(losses["reference"]))


def measure(variant: str) -> dict[str, float]:
    """All differences of one variant, under the names of `LIMITS`."""
    reference = timm_model(variant)
    model = convert_checkpoint(reference)
    differences = {
        "parameters": float(count_parameters(model) != count_parameters(reference)),
        **measure_forward(reference, model, variant),
    }
    model.set_attn_implementation("eager")  # timm computes the same operations, so that only their order differs
    differences["gradients"] = measure_gradients(reference, model, variant)
    model.set_attn_implementation("sdpa")
    differences["gradients float64"] = measure_gradients(reference.double(), model.double(), variant)
    differences["losses"] = measure_training(variant)
    return differences


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    rows = {variant: measure(variant) for variant in tqdm(CROSSVIT_VARIANTS, desc="variants")}
    _, *columns = LIMITS
    lines = [["limit", "equal", *(f"{LIMITS[column]:.0e}" for column in columns)]]
    for variant, row in rows.items():
        equal = "equal" if row["parameters"] == 0 else "differ"
        lines.append([variant, equal, *(f"{row[column]:.1e}" for column in columns)])
    machine = measured_by("benchmarks.parity", "timm", "torch", "transformers")
    differences = table(("variant", "parameters", *columns), lines)
    print(f"wrote {fill('parity.md', {'machine': machine, 'differences': differences})}")


if __name__ == "__main__":
    main()
