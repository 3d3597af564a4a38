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
Proves that the configuration and the models of the package pass the tests of the contribution, which are transformers' own common
tests (`ConfigTester`, `ModelTesterMixin`, `PipelineTesterMixin`, `BackboneTesterMixin` of the installed release), and in addition
`TrainingTesterMixin`, `FSDPTesterMixin` and `TensorParallelTesterMixin`: training on two and four processes.

    make conformance

What is overridden here concerns what the package adds to the model. An override tests at least as much as the original.
"""

import functools
import os
import tempfile
import unittest
from unittest import mock

import torch
from prepare import SMALL
from tests.distributed_testing_utils import run_distributed
from tests.models.crossvit import test_modeling_crossvit as contribution
from tests.test_fsdp_mixin import FSDPTesterMixin
from tests.test_tensor_parallel_mixin import TensorParallelTesterMixin
from tests.test_training_mixin import TrainingTesterMixin
from tokens_as_images import VOCAB_SIZE, CrossViTOfTokens, load_in_parts, run_on_images
from transformers.modeling_layers import GradientCheckpointingLayer

from crossvit import CrossViTBackbone, CrossViTConfig, CrossViTForImageClassification, CrossViTPreTrainedModel
from tests import test_fsdp_mixin, test_modeling_common, test_tensor_parallel_mixin


# transformers runs its distributed tests only for a list of its own models. `None` stands for all models.
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_fsdp_mixin.AutoModelForCausalLM = CrossViTOfTokens


class CrossViTBackboneTest(contribution.CrossViTBackboneTest):
    pass


class CrossViTModelTest(
    contribution.CrossViTModelTest, TrainingTesterMixin, FSDPTesterMixin, TensorParallelTesterMixin
):
    def setUp(self):
        super().setUp()
        self.model_tester.causal_lm_class = CrossViTOfTokens  # what the tensor parallel tests call

    def test_reverse_loading_mapping(self):
        # The package saves under its own names unless it is asked for timm's. It also has names for more than one fusion layer, and the
        # names of the release, which it reads and never writes: test_checkpoints.py tests these.
        get_mapping = test_modeling_common.get_model_conversion_mapping
        release = [[r"cls_token\.(\d+)"], [r"pos_embed\.(\d+)"]]

        def without_release(model, **kwargs):
            return [entry for entry in get_mapping(model, **kwargs) if entry.source_patterns not in release]

        save = functools.partialmethod(CrossViTPreTrainedModel.save_pretrained, save_original_format=True)
        self.model_tester.sizes["num_fusion_layers"] = 2
        with (
            mock.patch.object(CrossViTPreTrainedModel, "save_pretrained", save),
            mock.patch.object(test_modeling_common, "get_model_conversion_mapping", without_release),
        ):
            super().test_reverse_loading_mapping()

    # The common tests of training leave backbones out, because their outputs have no loss: here it is that of all feature maps.

    def backbone_gradients(self, **checkpointing):
        """The gradient of every parameter after one step, and how often each layer that can be checkpointed ran."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = config.drop_path_rate = 0.0
        config.out_features = config.stage_names
        torch.manual_seed(0)
        # In float64, because re-entrant checkpointing adds the parts of a gradient in another order.
        model = CrossViTBackbone(config).train().double()
        inputs["pixel_values"] = torch.randn(inputs["pixel_values"].shape, dtype=torch.float64)
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=checkpointing)
        runs = {name: 0 for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}

        def count(name, *_):
            runs[name] += 1

        for name in runs:
            # A hook of the layer itself lies outside of what is checkpointed, so the hook is on its first part.
            next(model.get_submodule(name).children()).register_forward_pre_hook(functools.partial(count, name))
        sum(feature_map.square().mean() for feature_map in model(**inputs).feature_maps).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}, runs

    def test_training(self):
        super().test_training()
        gradients, runs = self.backbone_gradients()
        self.assertEqual(set(runs.values()), {1})
        for name, gradient in gradients.items():
            # The last fusion changes the CLS tokens alone, and these are not in the feature maps. The softmax cancels the bias of the keys
            # but for rounding.
            is_zero = name.startswith("stages.1.fusions.") or name.endswith("k_proj.bias")
            self.assertEqual(gradient.abs().max() > 1e-15, not is_zero, name)

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs=None):
        super().check_training_gradient_checkpointing(gradient_checkpointing_kwargs)
        expected, _ = self.backbone_gradients()
        gradients, runs = self.backbone_gradients(**(gradient_checkpointing_kwargs or {"use_reentrant": False}))
        torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-15)
        self.assertEqual(set(runs.values()), {2})

    @unittest.skip(reason="Images are not generated")
    def test_tp_generation(self):
        pass

    @unittest.skip(reason="Images are not generated")
    def test_tp_generation_quantized(self):
        pass

    # Training: the mixin can only build batches of text, and asks the configuration for a vocabulary.

    def _get_trainable_model_class(self):
        return CrossViTForImageClassification

    def _get_model_modality(self):
        return "text"

    def _create_text_training_batch(self, batch_size, seq_length, vocab_size):
        config = self.model_tester.get_config()
        torch.manual_seed(0)
        pixel_values = torch.randn(batch_size, config.num_channels, *config.branch_image_size(0))
        return {"pixel_values": pixel_values, "labels": torch.arange(batch_size)}

    def test_training_overfit(self):
        with mock.patch.object(CrossViTConfig, "vocab_size", None, create=True):
            super().test_training_overfit()

    # Distributed: the mixins call language models with token ids. `CrossViTOfTokens` takes these for images.

    def _get_tiny_config(self):
        # The mixin's own has single numbers for widths and heads. No dropout, because one test compares a batch with its halves.
        config = CrossViTConfig(**SMALL, num_labels=5, vocab_size=VOCAB_SIZE)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = config.drop_path_rate = 0.0
        return CrossViTConfig, config.to_diff_dict()

    def _get_tp_config(self, tie_word_embeddings=None):
        # Two processes can share these heads.
        sizes = {"hidden_sizes": [16, 32], "num_attention_heads": [2, 4], "num_fusion_layers": 2}
        config_class, config = self._get_tiny_config()
        return config_class(**{**config, **sizes, "tie_word_embeddings": bool(tie_word_embeddings)})

    def test_tp_refuses_timm_names(self):
        with tempfile.TemporaryDirectory() as folder:
            CrossViTForImageClassification(self._get_tp_config()).save_pretrained(folder, save_original_format=True)
            with self.assertRaisesRegex(Exception, "timm's names cannot be loaded with this `distributed_config`"):
                run_distributed(world_size=2)(load_in_parts)(folder)

    def _run_fsdp2_distributed_test(self, test_name, test_impl, *args, **kwargs):
        # Tests skip themselves where there are fewer cores than processes. Processes can share a core, so none has to.
        with mock.patch.object(os, "cpu_count", return_value=8):
            test_impl = functools.partial(run_on_images, test_impl)
            super()._run_fsdp2_distributed_test(test_name, test_impl, *args, **kwargs)
