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
Runs a script with FSDP on CPUs.

    accelerate launch --config_file examples/launch/fsdp2.yaml benchmarks/fsdp_on_cpu.py SCRIPT ...

accelerate offers FSDP for accelerators only. Therefore this script tells accelerate that each process has an accelerator (an XPU).
"""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType


initialize = PartialState.__init__


def initialize_as_accelerator(self, cpu: bool = True, **kwargs):
    is_first = not PartialState._shared_state
    initialize(self, cpu=True, **kwargs)
    if is_first:
        self.distributed_type = DistributedType.MULTI_XPU


PartialState.__init__ = initialize_as_accelerator
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
