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
Proves that the configuration and the models pass transformers' own common tests (`ConfigTester`, `ModelTesterMixin`,
`PipelineTesterMixin`, `BackboneTesterMixin`, `TrainingTesterMixin`, `FSDPTesterMixin`, `TensorParallelTesterMixin` of the
installed release): loading, saving, initialisation, attention implementations, gradient checkpointing, outputs, feature maps,
training, two and four processes.

    make conformance

Some common tests have no meaning for images or for two branches. They are skipped or overridden here. Each says why, and an
override tests at least as much as the original.
"""

import functools
import os
import tempfile
import unittest
from unittest import mock

import torch
from prepare import SMALL
from safetensors.torch import load_file
from tests.distributed_testing_utils import run_distributed
from tests.test_backbone_common import BackboneTesterMixin
from tests.test_configuration_common import ConfigTester
from tests.test_fsdp_mixin import FSDPTesterMixin
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
from tests.test_pipeline_mixin import PipelineTesterMixin
from tests.test_tensor_parallel_mixin import TensorParallelTesterMixin
from tests.test_training_mixin import TrainingTesterMixin
from tokens_as_images import VOCAB_SIZE, CrossViTOfTokens, load_in_parts, run_on_images
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from crossvit import (
    CrossViTBackbone,
    CrossViTConfig,
    CrossViTForImageClassification,
    CrossViTModel,
    CrossViTPreTrainedModel,
)
from tests import test_fsdp_mixin, test_modeling_common, test_tensor_parallel_mixin


# transformers runs its distributed tests only for a list of its own models. `None` stands for all models.
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_fsdp_mixin.AutoModelForCausalLM = CrossViTOfTokens


class CrossViTModelTester:
    is_training = True
    batch_size = 7
    num_labels = 5
    causal_lm_class = CrossViTOfTokens  # what the tensor parallel tests call

    # The common tests compare these with the first hidden state and the first attention: both belong to the small branch.
    seq_length = 1 + (SMALL["image_sizes"][0] // SMALL["patch_sizes"][0]) ** 2
    hidden_size = SMALL["hidden_sizes"][0]
    num_attention_heads = SMALL["num_attention_heads"][0]
    # The numbers of attentions and of hidden states: sums over all stages and branches.
    num_hidden_layers = SMALL["num_stages"] * sum(SMALL["depths"])
    expected_num_hidden_layers = (1 + SMALL["num_stages"]) * len(SMALL["depths"])

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        # Feature maps of both branches and of both stages; only the backbone has them.
        return CrossViTConfig(**SMALL, num_labels=self.num_labels, out_features=["small_stage1", "large_stage2"])

    def prepare_config_and_inputs(self, num_channels=3):
        height, width = self.get_config().branch_image_size(0)
        pixel_values = floats_tensor([self.batch_size, num_channels, height, width])
        return self.get_config(), pixel_values, ids_tensor([self.batch_size], self.num_labels)

    def prepare_config_and_inputs_for_common(self):
        config, pixel_values, _ = self.prepare_config_and_inputs()
        return config, {"pixel_values": pixel_values}


class CrossViTModelTest(
    ModelTesterMixin,
    PipelineTesterMixin,
    TrainingTesterMixin,
    FSDPTesterMixin,
    TensorParallelTesterMixin,
    unittest.TestCase,
):
    all_model_classes = (CrossViTModel, CrossViTForImageClassification, CrossViTBackbone)
    pipeline_model_mapping = {
        "image-feature-extraction": CrossViTModel,
        "image-classification": CrossViTForImageClassification,
    }
    test_resize_embeddings = False  # images have no vocabulary

    def setUp(self):
        self.model_tester = CrossViTModelTester(self)
        self.config_tester = ConfigTester(
            self,
            config_class=CrossViTConfig,
            has_text_modality=False,
            # There is no single number of layers, as in all vision models with several stages.
            common_properties=["image_size", "patch_sizes", "num_channels", "hidden_size", "num_attention_heads"],
            hidden_sizes=[36, 48],
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model(self):
        config, pixel_values, _ = self.model_tester.prepare_config_and_inputs()
        outputs = CrossViTModel(config).eval()(pixel_values, output_hidden_states=True)
        self.assertEqual(outputs.last_hidden_state.shape, (7, 5, 24))
        self.assertEqual(outputs.pooler_output.shape, (7, 40))
        self.assertEqual([state.shape for state in outputs.branch_hidden_states], [(7, 17, 16), (7, 5, 24)])

    def test_for_image_classification(self):
        for num_channels in (3, 1):
            config, pixel_values, labels = self.model_tester.prepare_config_and_inputs(num_channels)
            config.num_channels = num_channels
            outputs = CrossViTForImageClassification(config).eval()(pixel_values, labels=labels)
            self.assertEqual(outputs.logits.shape, (7, 5))
            self.assertEqual(outputs.loss.shape, ())

    def test_num_layers_is_small(self):
        # The tester's number of layers is a sum, too large for the common test. Each of its terms is small.
        self.assertLessEqual(max(SMALL["num_stages"], *SMALL["depths"]), 2)

    def test_model_get_set_embeddings(self):
        # The common test sets an `nn.Embedding`. The input embeddings of images are another module.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config)
            embeddings = model.base_model.embeddings[0]
            self.assertIs(model.get_input_embeddings(), embeddings)
            other_embeddings = type(embeddings)(config, branch=0)
            model.set_input_embeddings(other_embeddings)
            self.assertIs(model.get_input_embeddings(), other_embeddings)
            self.assertIs(model.base_model.embeddings[0], other_embeddings)
            self.assertIsNone(model.get_output_embeddings())
            model(**inputs)

    def test_attention_outputs(self):
        # With the hidden states, the base model also returns those of every branch after the final LayerNorm.
        for model_class in self.all_model_classes:
            with mock.patch.object(self, "all_model_classes", (model_class,)):
                self.model_tester.num_hidden_states_types = 2 if model_class is CrossViTModel else 1
                super().test_attention_outputs()
        # The common test checks the shape of the first attention only, and cross-attentions only in decoders.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            outputs = model_class(config).eval()(**inputs, output_attentions=True)
            small, large = (7, 2, 17, 17), (7, 3, 5, 5)
            self.assertEqual([attention.shape for attention in outputs.attentions], [small, large, large] * 2)
            crosses = [(7, 3, 1, 5), (7, 2, 1, 17)]
            self.assertEqual([attention.shape for attention in outputs.cross_attentions], crosses * 2)

    def test_hidden_states_output(self):
        super().test_hidden_states_output()
        # The common test checks the shape of the first hidden state only.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            outputs = model_class(config).eval()(**inputs, output_hidden_states=True)
            self.assertEqual([state.shape for state in outputs.hidden_states], [(7, 17, 16), (7, 5, 24)] * 3)

    def test_reverse_loading_mapping(self):
        # The conversion is for timm's names, and `save_pretrained` writes these only where it is asked to. No model needs all
        # entries of the conversion, because no model has both kinds of patch embeddings. So each is tested with the entries that
        # match its names, and together the models must need all entries.
        tested, all_patterns = set(), set()
        get_mapping = test_modeling_common.get_model_conversion_mapping

        def matching(model, **kwargs):
            mapping = get_mapping(model, **kwargs)
            all_patterns.update(tuple(entry.source_patterns) for entry in mapping)
            names = list(to_timm_names(model))
            matched = [entry for entry in mapping if any(map(entry._scoped_match, names))]
            tested.update(tuple(entry.source_patterns) for entry in matched)
            return matched

        def to_timm_names(model):
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder, save_original_format=True)
                return load_file(os.path.join(folder, "model.safetensors"))

        save = functools.partialmethod(CrossViTPreTrainedModel.save_pretrained, save_original_format=True)
        for variant in ({"hidden_sizes": [16, 24]}, {"use_convolutional_stem": True, "num_fusion_layers": 2}):
            with (
                mock.patch.dict(SMALL, variant),
                mock.patch.object(CrossViTPreTrainedModel, "save_pretrained", save),
                mock.patch.object(test_modeling_common, "get_model_conversion_mapping", matching),
            ):
                super().test_reverse_loading_mapping()
        # The authors' names of CLS tokens and position embeddings are read and never written: test_checkpoints.py tests them.
        self.assertEqual(all_patterns - tested, {(r"cls_token\.(\d+)",), (r"pos_embed\.(\d+)",)})

    def test_can_load_ignoring_mismatched_shapes(self):
        # The common test looks for one linear head. Here every branch has one, and the test is the same for all of them.
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        model = CrossViTForImageClassification(config)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            with self.assertRaises(RuntimeError):
                CrossViTForImageClassification.from_pretrained(folder, num_labels=42)
            with CaptureLogger(logging.get_logger("transformers.modeling_utils")) as captured:
                new_model = CrossViTForImageClassification.from_pretrained(
                    folder, num_labels=42, ignore_mismatched_sizes=True
                )
        self.assertIn("Reinit due to size mismatch", captured.out)
        weights, new_weights = model.state_dict(), new_model.state_dict()
        self.assertEqual(weights.keys(), new_weights.keys())
        for name, weight in new_weights.items():
            if name.startswith("classifier."):
                self.assertEqual(weight.shape[0], 42)
                self.assertLess(weight.mean().abs(), 0.01)
                self.assertEqual(weight.any(), name.endswith("weight"))
            else:
                torch.testing.assert_close(weight, weights[name], rtol=0, atol=0)

    def test_enable_input_require_grads_with_gradient_checkpointing(self):
        # The common test wants embeddings with a weight of their own. Here their projection has it, in every branch.
        for branch in range(len(SMALL["depths"])):
            with mock.patch.object(
                CrossViTPreTrainedModel,
                "get_input_embeddings",
                lambda model, branch=branch: model.base_model.embeddings[branch].patch_embeddings.projection,
            ):
                super().test_enable_input_require_grads_with_gradient_checkpointing()

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
            # The last fusion changes the CLS tokens alone, and these are not in the feature maps. The softmax of a fusion cancels the bias
            # of the keys.
            is_zero = name.startswith("stages.1.fusions.") or name.endswith("cross_attention.k_proj.bias")
            self.assertEqual(gradient.any(), not is_zero, name)

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


class CrossViTBackboneTest(BackboneTesterMixin, unittest.TestCase):
    all_model_classes = (CrossViTBackbone,)
    config_class = CrossViTConfig

    def setUp(self):
        self.model_tester = CrossViTModelTester(self)

    def test_config(self):
        # The common test wants the names of a model with one branch: `stem`, `stage1` and so on. This is the same test with ours.
        names = [f"{branch}_stage{stage}" for branch in ("small", "large") for stage in (1, 2, 3)]
        for arguments, features, indices in (
            ({}, ["large_stage3"], [5]),
            ({"out_features": None, "out_indices": None}, ["large_stage3"], [5]),
            ({"out_features": names[:2], "out_indices": [0, 1]}, names[:2], [0, 1]),
            ({"out_features": [names[1], names[3]]}, [names[1], names[3]], [1, 3]),
            ({"out_indices": [0, 2]}, [names[0], names[2]], [0, 2]),
        ):
            config = CrossViTConfig(**arguments)
            self.assertEqual(config.stage_names, names)
            self.assertEqual((config.out_features, config.out_indices), (features, indices))
        with self.assertRaises(ValueError):
            CrossViTConfig(out_features=names[:2], out_indices=[0, 2])
