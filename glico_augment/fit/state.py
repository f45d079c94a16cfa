"""All that the remaining steps of a fit depend on, taken out and put back."""

from __future__ import annotations

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.files.format import check_tensors, with_prefix, without_prefix
from glico_augment.fit.loop import MAX_RESTARTS, Fit


def state_of(fit: Fit) -> tuple[dict[str, Tensor], dict[str, int]]:
    """All that the remaining steps depend on, as tensors and numbers.

    Raises:
        DivergenceError: if one of them is NaN or infinite.
    """
    fit.share_codes()
    tensors = with_prefix("model.", dict(fit.model.named_parameters()))
    tensors |= with_prefix("adam.codes.", fit.code_adam.state())
    for index, state in fit.network_adam.state_dict()["state"].items():
        tensors |= {f"adam.networks.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors["history"] = fit.history[: fit.steps_done]
    tensors["order"] = fit.order.left
    tensors["order_rng"] = fit.order.rng.get_state()
    tensors["noise_rng"] = fit.noise_rng.get_state()
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise fit.divergence(fit.steps_done, f"{name} holds NaN or an infinite value")
    numbers = {"steps_done": fit.steps_done, "restarts": fit.restarts, "is_stopped": int(fit.is_stopped)}
    return tensors, numbers


def restore(fit: Fit, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
    """Continue from the :func:`state_of` a fit of the same images, config and seed.

    Raises:
        KeyError, TypeError, ValueError: if it is of another fit.
    """
    limits = {"steps_done": fit.total_steps, "restarts": MAX_RESTARTS, "is_stopped": 1}
    steps_done, fit.restarts, is_stopped = (
        checks.integer(0, high=limit)(name, numbers[name]) for name, limit in limits.items()
    )
    fit.start()
    _check_state(fit, tensors, steps_done)
    with torch.no_grad():
        for name, parameter in fit.model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    fit.code_adam.restore(without_prefix("adam.codes.", tensors))
    state = fit.network_adam.state_dict()
    parameters = dict(enumerate(fit.network_adam.param_groups[0]["params"]))
    state["state"] = {
        index: {key: _as_state(value, parameter) for key, value in kept.items()}
        for index, parameter in parameters.items()
        if (kept := without_prefix(f"adam.networks.{index}.", tensors))
    }
    fit.network_adam.load_state_dict(state)
    fit.steps_done = steps_done
    fit.is_stopped = bool(is_stopped)
    fit.history[: fit.steps_done] = tensors["history"].to(fit.device)
    fit.order.left = tensors["order"]
    fit.order.rng.set_state(tensors["order_rng"])
    fit.noise_rng.set_state(tensors["noise_rng"])


def _check_state(fit: Fit, tensors: dict[str, Tensor], steps_done: int) -> None:
    """Raise ValueError unless there is every tensor of a state, of its type and shape, and no other."""
    expected = with_prefix("model.", dict(fit.model.named_parameters()))
    expected |= with_prefix("adam.codes.", fit.code_adam.state())
    if steps_done:
        for index, parameter in enumerate(fit.network_adam.param_groups[0]["params"]):
            expected |= {f"adam.networks.{index}.{name}": parameter for name in ("exp_avg", "exp_avg_sq")}
            expected[f"adam.networks.{index}.step"] = torch.zeros(())
    expected["history"] = fit.history[:steps_done]
    expected["order"] = fit.order.left.new_empty(tensors["order"].shape[:1])  # as long as it is
    expected |= {"order_rng": fit.order.rng.get_state(), "noise_rng": fit.noise_rng.get_state()}
    check_tensors(tensors, expected)
    if not bool(((tensors["order"] >= 0) & (tensors["order"] < fit.n_images)).all()):
        raise ValueError("its order names images that are not there")


def _as_state(value: Tensor, parameter: Tensor) -> Tensor | int:
    """A saved value as an optimiser holds it: moments in the memory format of their parameter, counts as numbers."""
    if value.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(value)
    return value if value.is_floating_point() else int(value)
