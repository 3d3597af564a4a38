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
The tests of transformers that skip themselves here, by the reason that they give. `*` in a reason stands for a model class.

The run fails where a test skips that is not listed with its reason, and where a listed test does not skip: see conftest.py.
"""

from importlib.util import find_spec

from packaging.version import Version
from transformers import __version__


# Every release, on every machine.
ALWAYS = {
    # Tasks other than image classification and image feature extraction.
    "The task is not in `self.pipeline_model_mapping` for `CrossViTModelTest`.": """
        test_pipeline_any_to_any
        test_pipeline_any_to_any_fp16
        test_pipeline_audio_classification
        test_pipeline_audio_classification_fp16
        test_pipeline_automatic_speech_recognition
        test_pipeline_automatic_speech_recognition_fp16
        test_pipeline_depth_estimation
        test_pipeline_depth_estimation_fp16
        test_pipeline_feature_extraction
        test_pipeline_feature_extraction_fp16
        test_pipeline_fill_mask
        test_pipeline_fill_mask_fp16
        test_pipeline_image_segmentation
        test_pipeline_image_segmentation_fp16
        test_pipeline_image_text_to_text
        test_pipeline_image_text_to_text_fp16
        test_pipeline_object_detection
        test_pipeline_object_detection_fp16
        test_pipeline_table_question_answering
        test_pipeline_table_question_answering_fp16
        test_pipeline_text_classification
        test_pipeline_text_classification_fp16
        test_pipeline_text_generation
        test_pipeline_text_generation_fp16
        test_pipeline_text_to_audio
        test_pipeline_text_to_audio_fp16
        test_pipeline_token_classification
        test_pipeline_token_classification_fp16
        test_pipeline_zero_shot
        test_pipeline_zero_shot_audio_classification
        test_pipeline_zero_shot_audio_classification_fp16
        test_pipeline_zero_shot_fp16
        test_pipeline_zero_shot_image_classification
        test_pipeline_zero_shot_image_classification_fp16
        test_pipeline_zero_shot_object_detection
        test_pipeline_zero_shot_object_detection_fp16
    """,
    "`run_pipeline_test` is currently not implemented.": """
        test_pipeline_mask_generation
        test_pipeline_mask_generation_fp16
    """,
    # Text: token embeddings that can be resized, language modeling heads, generation.
    "This model doesn't use `inputs_embeds`": "test_inputs_embeds test_inputs_embeds_matches_input_ids",
    "test_resize_embeddings is set to `False`": """
        test_resize_embeddings_untied
        test_resize_embeddings_untied_no_reinit_on_post_init
        test_resize_tokens_embeddings
    """,
    "No decoder-only language modeling head to check": "test_causal_lm_loss_honors_shift_labels",
    "No sequence-to-sequence language modeling head to check": "test_encoder_decoder_loss_no_double_shift",
    "Images are not generated": "test_tp_generation test_tp_generation_quantized",
    "Model does not support sliding window mask": "test_sliding_window_mask",
    # Rotary position embeddings.
    "This model does not support RoPE scaling": """
        test_model_rope_scaling_frequencies
        test_model_rope_scaling_from_config_0_linear
        test_model_rope_scaling_from_config_1_dynamic
        test_model_rope_scaling_from_config_2_yarn
    """,
    "This model does not have RoPE": "test_model_rope_with_partial_rotation",
    "<class '*.CrossViTModel'> has no axial RoPE layer defined.": "test_vision_axial_rope",
    # Ours are resized with `resize_position_embeddings`, for every branch: tests/modeling_crossvit/test_loading.py.
    "Model does not have position embeddings": "test_resize_position_vector_embeddings",
    # Mixtures of experts.
    "CrossViTModel does not support grouped_mm": """
        test_eager_matches_batched_and_grouped_inference_0_fp16
        test_eager_matches_batched_and_grouped_inference_1_fp32
        test_eager_matches_batched_and_grouped_inference_2_bf16
    """,
    "Model does not have a token-dispatch expert parallel plan": """
        test_fsdp2_expert_parallel_bf16_grads_0_experts_sharded
        test_fsdp2_expert_parallel_bf16_grads_1_experts_not_sharded
        test_hsdp_grad_accumulation_vs_single_device_2_expert_parallel
    """,
    "Model does not have an expert parallel plan (base_model_ep_plan)": "test_fsdp2_expert_parallel_2d_vs_ddp",
    "This model has no sparse experts.": "test_moe_models_record_router_logits",
    "Not an MoE model": "test_moe_parallel_plans_shard_experts",
    "This model has no `output_router_logits` in its config.": "test_output_router_logits_from_config",
    # Models made of other models.
    "Model is not a composite model.": "test_attn_implementation_composite_models",
    "This model is not composite": "test_can_set_attention_dynamically_composite_model",
    "CrossViTModel does not support SDPA": "test_sdpa_can_dispatch_composite_models",  # it asks composite models alone
    "No subconfigs so the test does not make sense": "test_internal_model_config_and_subconfig_are_same",
    # Modules that stay in float32: no class has any.
    "* class has no _keep_in_fp32_modules or _keep_in_fp32_modules_strict attribute defined": "test_keep_in_fp32_modules",
    "* has no _keep_in_fp32_modules nor _keep_in_fp32_modules_strict attribute defined": "test_keep_in_fp32_modules_exist",
    # Image processors with checks of their own in `preprocess`.
    "No validation found for `preprocess` method": "test_image_processor_preprocess_arguments",
}

SINCE_5_24 = {
    "Do not take a cache as input to forward": "test_bc_cache_name_forward",
    "No `_keep_in_fp32_modules_strict` defined": "test_keep_in_fp32_modules_strict_also_hardcode_fp32",
}

# The plans for several devices are in the base class of this package, and do not go into the tree.
IN_THE_TREE = {"Model does not have a TP plan.": "test_tp_plan_matches_params test_tied_head_has_a_tp_plan_entry"}

# Skipped where the machine lacks what they need.
WITHOUT_HARDWARE_OR_PACKAGES = {
    "test requires accelerator": """
        test_can_compile_torchvision_backend
        test_can_load_with_device_context_manager
        test_can_load_with_global_device_set
        test_cpu_offload
        test_disk_offload_bin
        test_disk_offload_safetensors
        test_flex_attention_with_grads
        test_sdpa_can_compile_dynamic
        test_sdpa_can_dispatch_on_flash
        test_torch_compile_for_training
    """,
    "test requires multiple accelerators": "test_model_parallelism",
    "test requires MPS": "test_flash_attn_kernels_mps_inference_equivalence",
    "test requires Flash Attention": """
        test_flash_attn_2_can_compile_with_attention_mask_None_without_graph_break
        test_flash_attn_2_can_dispatch_composite_models
        test_flash_attn_2_fp32_ln
        test_flash_attn_2_from_config
        test_flash_attn_2_inference_equivalence
        test_flash_attn_2_inference_equivalence_right_padding
    """,
    "test requires Flash Attention 3": """
        test_flash_attn_3_can_dispatch_composite_models
        test_flash_attn_3_from_config
        test_flash_attn_3_inference_equivalence
        test_flash_attn_3_inference_equivalence_right_padding
    """,
    "test requires Flash Attention 4": """
        test_flash_attn_4_can_dispatch_composite_models
        test_flash_attn_4_from_config
        test_flash_attn_4_inference_equivalence
        test_flash_attn_4_inference_equivalence_right_padding
    """,
    "test requires the kernels library": """
        test_flash_attn_kernels_inference_equivalence
        test_kernels_can_load_without_crashing
    """,
    # These need the packages too, and skip for another reason where they are installed: they are about text and video.
    "test requires deepspeed": """
        test_resize_embeddings_untied_with_deepspeed
        test_resize_embeddings_untied_with_deepspeed_multi_gpu
        test_resize_tokens_embeddings_with_deepspeed
        test_resize_tokens_embeddings_with_deepspeed_multi_gpu
    """,
    "test requires PyTesseract": """
        test_pipeline_document_question_answering
        test_pipeline_document_question_answering_fp16
    """,
    "test requires av": "test_pipeline_video_classification test_pipeline_video_classification_fp16",
}


def by_test(*tables: dict[str, str]) -> dict[str, set[str]]:
    """The reasons that each test may give."""
    reasons = {}
    for table in tables:
        for reason, tests in table.items():
            for test in tests.split():
                reasons.setdefault(test, set()).add(reason)
    return reasons


MUST_SKIP = by_test(
    ALWAYS,
    SINCE_5_24 if Version(__version__) >= Version("5.24") else {},
    IN_THE_TREE if find_spec("transformers.models.crossvit") else {},
)
MAY_SKIP = by_test(WITHOUT_HARDWARE_OR_PACKAGES)
