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
"""Stand-in: exports every model class with `torch.export`, and compares the outputs with the model's."""

import copy

import torch
from parameterized import parameterized
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter


class ExportTesterMixin:
    @parameterized.expand([("static", False), ("dynamic", True)])
    def test_torch_export(self, _, dynamic):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(copy.deepcopy(config)).eval()
            exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=dynamic))
            other_inputs = {name: torch.cat([value, value.flip(-1)]) for name, value in inputs.items()}
            for example in [inputs, other_inputs] if dynamic else [inputs]:
                with torch.no_grad():
                    expected = model(**example)
                torch.testing.assert_close(dict(exported(**example)), dict(expected), rtol=1e-5, atol=1e-5)
