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
"""Testing suite for the PyTorch CrossViT model."""

import os
import tempfile
import unittest
from unittest import mock

from transformers import CrossViTConfig
from transformers.testing_utils import CaptureLogger, require_torch, torch_device
from transformers.utils import is_torch_available, logging

from ... import test_modeling_common
from ...test_backbone_common import BackboneTesterMixin
from ...test_configuration_common import ConfigTester
from ...test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor
from ...test_pipeline_mixin import PipelineTesterMixin


if is_torch_available():
    import torch
    from safetensors.torch import load_file

    from transformers import CrossViTBackbone, CrossViTForImageClassification, CrossViTModel, CrossViTPreTrainedModel


class CrossViTModelTester:
    # The branches differ in all sizes, so that what is mixed up between them shows.
    def __init__(
        self,
        parent,
        batch_size=7,
        image_sizes=(48, 32),
        patch_sizes=(12, 16),
        num_channels=3,
        hidden_sizes=(16, 24),
        num_stages=2,
        depths=(1, 2),
        num_attention_heads=(2, 3),
        mlp_ratios=(2.0, 3.0),
        num_labels=5,
        is_training=True,
    ):
        self.parent = parent
        self.batch_size = batch_size
        self.num_channels = num_channels
        self.num_labels = num_labels
        self.is_training = is_training
        self.sizes = {
            "image_sizes": image_sizes,
            "patch_sizes": patch_sizes,
            "hidden_sizes": hidden_sizes,
            "num_stages": num_stages,
            "depths": depths,
            "num_attention_heads": num_attention_heads,
            "mlp_ratios": mlp_ratios,
        }
        self.image_size = image_sizes[0]
        # The common tests compare these with the first hidden state and the first attention: both belong to the small branch.
        self.seq_length = 1 + (image_sizes[0] // patch_sizes[0]) ** 2
        self.hidden_size = hidden_sizes[0]
        self.num_attention_heads = num_attention_heads[0]
        # The numbers of attentions and of hidden states: sums over all stages and branches.
        self.num_hidden_layers = num_stages * sum(depths)
        self.expected_num_hidden_layers = (1 + num_stages) * len(depths)

    def get_config(self):
        return CrossViTConfig(
            **self.sizes,
            num_channels=self.num_channels,
            num_labels=self.num_labels,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            drop_path_rate=0.1,
            out_features=["small_stage1", "large_stage2"],
        )

    def prepare_config_and_inputs(self):
        pixel_values = floats_tensor([self.batch_size, self.num_channels, self.image_size, self.image_size])
        return self.get_config(), pixel_values, ids_tensor([self.batch_size], self.num_labels)

    def prepare_config_and_inputs_for_common(self):
        config, pixel_values, _ = self.prepare_config_and_inputs()
        return config, {"pixel_values": pixel_values}


@require_torch
class CrossViTModelTest(ModelTesterMixin, PipelineTesterMixin, unittest.TestCase):
    all_model_classes = (
        (CrossViTModel, CrossViTForImageClassification, CrossViTBackbone) if is_torch_available() else ()
    )
    pipeline_model_mapping = (
        {"image-feature-extraction": CrossViTModel, "image-classification": CrossViTForImageClassification}
        if is_torch_available()
        else {}
    )
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = CrossViTModelTester(self)
        self.config_tester = ConfigTester(
            self,
            config_class=CrossViTConfig,
            has_text_modality=False,
            common_properties=["image_size", "patch_sizes", "num_channels", "hidden_size", "num_attention_heads"],
            hidden_sizes=[36, 48],
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model(self):
        config, pixel_values, _ = self.model_tester.prepare_config_and_inputs()
        model = CrossViTModel(config).to(torch_device).eval()
        outputs = model(pixel_values, output_hidden_states=True)
        self.assertEqual(outputs.last_hidden_state.shape, (7, 5, 24))
        self.assertEqual(outputs.pooler_output.shape, (7, 40))
        self.assertEqual([state.shape for state in outputs.branch_hidden_states], [(7, 17, 16), (7, 5, 24)])

    def test_for_image_classification(self):
        for num_channels in (3, 1):
            self.model_tester.num_channels = num_channels
            config, pixel_values, labels = self.model_tester.prepare_config_and_inputs()
            model = CrossViTForImageClassification(config).to(torch_device).eval()
            outputs = model(pixel_values, labels=labels)
            self.assertEqual(outputs.logits.shape, (7, 5))
            self.assertEqual(outputs.loss.shape, ())

    def test_interpolate_pos_encoding(self):
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        model = CrossViTModel(config).to(torch_device).eval()
        pixel_values = floats_tensor([2, 3, 72, 96])
        with self.assertRaisesRegex(ValueError, "interpolate_pos_encoding=True"):
            model(pixel_values)
        outputs = model(pixel_values, interpolate_pos_encoding=True)
        # 1.5 and 2 times the configured size of the large branch, 32 pixels, in patches of 16
        self.assertEqual(outputs.last_hidden_state.shape, (2, 1 + 3 * 4, 24))

    def test_num_layers_is_small(self):
        # The tester's number of layers is a sum, too large for the common test. Each of its terms is small.
        config = self.model_tester.get_config()
        self.assertLessEqual(max(config.num_stages, *config.depths), 2)

    def test_model_get_set_embeddings(self):
        # The common test sets an `nn.Embedding`. The input embeddings of images are another module.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config).to(torch_device)
            embeddings = model.base_model.embeddings[0]
            self.assertIs(model.get_input_embeddings(), embeddings)
            other_embeddings = type(embeddings)(config, branch=0).to(torch_device)
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
            outputs = model_class(config).to(torch_device).eval()(**inputs, output_attentions=True)
            small, large = (7, 2, 17, 17), (7, 3, 5, 5)
            self.assertEqual([attention.shape for attention in outputs.attentions], [small, large, large] * 2)
            crosses = [(7, 3, 1, 5), (7, 2, 1, 17)]
            self.assertEqual([attention.shape for attention in outputs.cross_attentions], crosses * 2)

    def test_hidden_states_output(self):
        super().test_hidden_states_output()
        # The common test checks the shape of the first hidden state only.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            outputs = model_class(config).to(torch_device).eval()(**inputs, output_hidden_states=True)
            self.assertEqual([state.shape for state in outputs.hidden_states], [(7, 17, 16), (7, 5, 24)] * 3)

    def test_reverse_loading_mapping(self):
        # No model has both kinds of patch embeddings. So each is tested with the entries of the conversion that match the names that it
        # saves, and together they must need all entries.
        tested, all_patterns = set(), set()
        get_mapping = test_modeling_common.get_model_conversion_mapping

        def matching(model, **kwargs):
            mapping = get_mapping(model, **kwargs)
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                names = list(load_file(os.path.join(folder, "model.safetensors")))
            matched = [entry for entry in mapping if any(map(entry._scoped_match, names))]
            all_patterns.update(tuple(entry.source_patterns) for entry in mapping)
            tested.update(tuple(entry.source_patterns) for entry in matched)
            return matched

        for use_convolutional_stem in (False, True):
            self.model_tester.sizes["use_convolutional_stem"] = use_convolutional_stem
            with mock.patch.object(test_modeling_common, "get_model_conversion_mapping", matching):
                super().test_reverse_loading_mapping()
        self.assertEqual(tested, all_patterns)

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
        for branch in range(2):
            with mock.patch.object(
                CrossViTPreTrainedModel,
                "get_input_embeddings",
                lambda model, branch=branch: model.base_model.embeddings[branch].patch_embeddings.projection,
            ):
                super().test_enable_input_require_grads_with_gradient_checkpointing()


@require_torch
class CrossViTBackboneTest(BackboneTesterMixin, unittest.TestCase):
    all_model_classes = (CrossViTBackbone,) if is_torch_available() else ()
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
