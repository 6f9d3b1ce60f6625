"""How the server describes itself: models, properties, slots, metrics."""

import time
from typing import Any

from sandbox.llama.records import Totals
from sandbox.llama.slots import Slot

TEMPLATE = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor -%}"
)
BUILD = "b1-0c1e570"


def models(alias: str, ctx: int) -> dict[str, Any]:
    """Return the body of ``/v1/models``."""
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [""],
        "parameter_size": "",
        "quantization_level": "",
    }
    model = {
        "name": alias,
        "model": alias,
        "modified_at": "",
        "size": "",
        "digest": "",
        "type": "model",
        "description": "",
        "tags": [""],
        "capabilities": ["completion"],
        "parameters": "",
        "details": details,
    }
    meta = {
        "vocab_type": 1,
        "n_vocab": 32000,
        "n_ctx": ctx,
        "n_ctx_train": 131072,
        "n_embd": 64,
        "n_params": 311488,
        "size": 1245952,
        "ftype": "all F32",
    }
    entry = {
        "id": alias,
        "aliases": [alias],
        "tags": [],
        "object": "model",
        "created": int(time.time()),
        "owned_by": "llamacpp",
        "meta": meta,
    }
    return {"models": [model], "object": "list", "data": [entry]}


def props(alias: str, ctx: int, slot_count: int) -> dict[str, Any]:
    """Return the body of ``/props``, with the fields a gateway might read."""
    return {
        "default_generation_settings": {"params": {"n_predict": -1, "stream": False}, "n_ctx": ctx},
        "total_slots": slot_count,
        "model_alias": alias,
        "model_ftype": "all F32",
        "model_path": "/models/simulated.gguf",
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "ui": False,
        "chat_template": TEMPLATE,
        "chat_template_caps": {
            "supports_object_arguments": True,
            "supports_parallel_tool_calls": True,
            "supports_string_content": True,
            "supports_system_role": True,
            "supports_tool_calls": True,
            "supports_tools": True,
            "supports_typed_content": True,
        },
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "build_info": BUILD,
        "is_sleeping": False,
    }


def router_props(most: int) -> dict[str, Any]:
    """Return the body of a router's own ``/props``: it has neither slots nor a context."""
    return {
        "role": "router",
        "max_instances": most,
        "models_autoload": True,
        "model_alias": "llama-server",
        "model_path": "none",
        "default_generation_settings": {"params": None, "n_ctx": 0},
        "ui_settings": {},
        "build_info": BUILD,
        "cors_proxy_enabled": False,
    }


def slots(found: list[Slot], ctx: int) -> list[dict[str, Any]]:
    """Return the body of ``/slots``; one that was never used has fewer fields."""
    return [_slot(slot, ctx) for slot in found]


def _slot(slot: Slot, ctx: int) -> dict[str, Any]:
    record = slot.record
    known = {
        "id": slot.id,
        "n_ctx": ctx,
        "speculative": False,
        "is_processing": record is not None,
    }
    if slot.task < 0:
        return known
    decoded = record.completion_generated if record else 0
    remaining = {"has_next_token": record is not None, "has_new_line": False, "n_remain": -1}
    return known | {
        "id_task": slot.task,
        # Of a running request this includes the answer so far.
        "n_prompt_tokens": record.prompt_tokens + decoded if record else slot.kept.prompt.tokens,
        "n_prompt_tokens_processed": record.processed_prompt_tokens if record else 0,
        "n_prompt_tokens_cache": record.cached_prompt_tokens if record else 0,
        "params": {},
        "next_token": [remaining | {"n_decoded": decoded}],
    }


def metrics(totals: Totals, processing: int, deferred: int) -> str:
    """Return the body of ``/metrics``; a request's tokens count once it has ended."""
    values = (
        ("prompt_tokens_total", "counter", totals.prompt_tokens - totals.cached_prompt_tokens),
        ("prompt_tokens_cached_total", "counter", totals.cached_prompt_tokens),
        ("tokens_predicted_total", "counter", totals.completion_generated),
        ("requests_processing", "gauge", processing),
        ("requests_deferred", "gauge", deferred),
    )
    return "".join(
        f"# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n" for name, kind, value in values
    )
