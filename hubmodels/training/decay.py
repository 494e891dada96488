"""Which parameters weight decay is for."""

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups for AdamW: decay shrinks the matrices, not the embeddings, norms and biases.

    A matrix is a trainable parameter of two or more dimensions that no `nn.Embedding` owns; so a table of
    learned positions belongs in an `nn.Embedding`.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in trained if p.ndim < 2 or id(p) in tables]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
