"""A vLLM plugin that finishes DeepSeek V4's dummy weights.

vLLM 0.26 derives some of V4's tensors at the end of the model's `load_weights`, which `--load-format dummy` never
calls: the first forward pass then fails at `assert self.hc_attn_fn_broadcast is not None`. The plugin makes the two
calls that `load_weights` makes. Later versions make them by themselves; there it changes nothing.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["write"]

MODULE = '''"""Finish DeepSeek V4's dummy weights as its load_weights would."""


def register():
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    plain = DummyModelLoader.load_weights

    def load_weights(self, model, model_config):
        plain(self, model, model_config)
        inner = getattr(model, "model", None)
        left_out = not hasattr(model, "process_weights_after_loading")
        if left_out and hasattr(inner, "finalize_mhc_broadcast_weights"):
            inner.finalize_mega_moe_weights()
            inner.finalize_mhc_broadcast_weights()

    DummyModelLoader.load_weights = load_weights
'''
FILES = {
    "dsv4_dummy_weights.py": MODULE,
    "dsv4_dummy_weights-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: dsv4-dummy-weights\nVersion: 1\n",
    "dsv4_dummy_weights-1.dist-info/entry_points.txt": (
        "[vllm.general_plugins]\nfinish_dummy_weights = dsv4_dummy_weights:register\n"
    ),
}


def write(folder: Path) -> Path:
    """Write the plugin into `folder`, which then goes on the engine's `PYTHONPATH`; returns `folder`."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
