"""GroupedAdamW against one `torch.optim.AdamW` per group."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from coemogen_train.train.adamw import Rows, update_rows
from coemogen_train.train.optimiser import GroupedAdamW, learning_rate_at

GROUPS, RANK, IN, OUT = 3, 2, 5, 4


class Stack(nn.Module):
    """A layer of GROUPS stacked LoRAs and one ordinary weight, small enough to differentiate by hand."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.down, self.up, self.plain = normal(GROUPS * RANK, IN), normal(OUT, GROUPS * RANK), normal(OUT)
        self.down.hilora_group_dim, self.up.hilora_group_dim = 0, 1
        self.down.hilora_rank = self.up.hilora_rank = RANK

    def forward(self, x: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.one_hot(group, GROUPS).double().repeat_interleave(RANK, dim=1)
        return ((x @ self.down.T) * gate) @ self.up.T + self.plain


def batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mixed batches of 4 samples; group 2 first appears at step 6 and is absent again now and then."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for step in range(steps):
        group = torch.randint(0, GROUPS if step >= 6 and step % 3 else 2, (4,), generator=generator)
        made.append((torch.randn(4, IN, generator=generator, dtype=torch.float64), group))
    return made


def loss_of(output: torch.Tensor) -> torch.Tensor:
    return (output - 1).pow(2).sum() / 4


def train_grouped(model: Stack, steps: int) -> GroupedAdamW:
    optimiser = GroupedAdamW(model.named_parameters(), learning_rate=1e-2, weight_decay=0.1)
    for x, group in batches(steps):
        optimiser.zero_grad()
        loss_of(model(x, group)).backward()
        optimiser.step(torch.bincount(group, minlength=GROUPS))
    return optimiser


def test_each_group_matches_an_adamw_of_its_own():
    grouped = Stack()
    alone = copy.deepcopy(grouped)
    state = train_grouped(grouped, 40).state_dict()

    downs = [nn.Parameter(alone.down[g * RANK : (g + 1) * RANK].detach().clone()) for g in range(GROUPS)]
    ups = [nn.Parameter(alone.up[:, g * RANK : (g + 1) * RANK].detach().clone()) for g in range(GROUPS)]
    plain = nn.Parameter(alone.plain.detach().clone())
    own = [torch.optim.AdamW([downs[g], ups[g]], lr=1e-2, weight_decay=0.1) for g in range(GROUPS)]
    own_plain = torch.optim.AdamW([plain], lr=1e-2, weight_decay=0.1)
    for x, group in batches(40):
        for optimiser in (*own, own_plain):
            optimiser.zero_grad()
        for g in group.unique().tolist():
            rows = x[group == g]
            loss_of(rows @ downs[g].T @ ups[g].T + plain).backward()
            own[g].step()
        own_plain.step()

    close = {"rtol": 1e-12, "atol": 1e-12}
    for g in range(GROUPS):
        rows = slice(g * RANK, (g + 1) * RANK)
        torch.testing.assert_close(grouped.down[rows], downs[g], **close)
        torch.testing.assert_close(grouped.up[:, rows], ups[g], **close)
        moments = own[g].state
        for kind in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(state[f"{kind}.down"][rows], moments[downs[g]][kind], **close)
            torch.testing.assert_close(state[f"{kind}.up"][:, rows], moments[ups[g]][kind], **close)
        assert state["steps.stacked"][g] == moments[downs[g]]["step"]
    assert state["steps.stacked"][2] < 40
    torch.testing.assert_close(grouped.plain, plain, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_absent_group_keeps_weights_and_moments_to_the_bit(dtype):
    model = Stack().to(dtype)
    for name in ("down", "up"):  # `.to` makes new parameters of some kinds: the marks must be there
        getattr(model, name).hilora_group_dim = 0 if name == "down" else 1
        getattr(model, name).hilora_rank = RANK
    optimiser = GroupedAdamW(model.named_parameters(), learning_rate=1e-2, weight_decay=0.1)
    for step, present in enumerate([(1, 1, 1), (1, 1, 1), (1, 0, 1)]):
        before = {**{k: v.clone() for k, v in model.state_dict().items()}, **optimiser.state_dict()}
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, step + 1.0)  # even where a gradient is there
        optimiser.step(torch.tensor(present))
    after = {**model.state_dict(), **optimiser.state_dict()}
    rows = slice(RANK, 2 * RANK)
    for name in ("down", "exp_avg.down", "exp_avg_sq.down"):
        assert torch.equal(after[name][rows], before[name][rows])
        assert not torch.equal(after[name][:RANK], before[name][:RANK])
    for name in ("up", "exp_avg.up", "exp_avg_sq.up"):
        assert torch.equal(after[name][:, rows], before[name][:, rows])
    assert after["steps.stacked"].tolist() == [3, 2, 3]


def test_found_inf_leaves_everything_untouched():
    model = Stack()
    optimiser = train_grouped(model, 8)
    before = {**copy.deepcopy(model.state_dict()), **optimiser.state_dict()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimiser.step(torch.ones(GROUPS), found_inf=torch.tensor(1.0))
    after = {**model.state_dict(), **optimiser.state_dict()}
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_state_dict_round_trip_continues_to_the_bit():
    straight, stopped = Stack(), Stack()
    train_grouped(straight, 12)
    saved = train_grouped(stopped, 6).state_dict()
    optimiser = GroupedAdamW(stopped.named_parameters(), learning_rate=1e-2, weight_decay=0.1)
    optimiser.load_state_dict(saved)
    for x, group in batches(12)[6:]:
        optimiser.zero_grad()
        loss_of(stopped(x, group)).backward()
        optimiser.step(torch.bincount(group, minlength=GROUPS))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True))


def test_a_state_of_another_model_is_refused():
    optimiser = train_grouped(Stack(), 1)
    state = optimiser.state_dict()
    state.pop("exp_avg.up")
    with pytest.raises(ValueError, match=r"exp_avg\.up"):
        optimiser.load_state_dict(state)


def test_gradient_norm_matches_torch():
    model = Stack()
    loss_of(model(*batches(1)[0])).backward()
    expected = nn.utils.clip_grad_norm_(copy_with_gradients(model), 1.0)
    found = GroupedAdamW(model.named_parameters()).gradient_norm()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def copy_with_gradients(model: Stack) -> list[nn.Parameter]:
    copies = []
    for parameter in model.parameters():
        copies.append(nn.Parameter(parameter.detach().clone()))
        copies[-1].grad = parameter.grad.clone()
    return copies


def test_learning_rate_warms_up_then_stays():
    rates = [learning_rate_at(step, 1.0, 3) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_averaged_weights_match_a_sum_by_hand_per_group():
    """Each group's average moves with its own steps: numpy's recursion over the weights it had after them."""
    model, decay = Stack(), 0.8
    optimiser = GroupedAdamW(model.named_parameters(), learning_rate=1e-2, ema_decay=decay)
    averages = [model.up.detach().numpy()[:, g * RANK : (g + 1) * RANK].copy() for g in range(GROUPS)]
    seen = [0] * GROUPS
    for x, group in batches(30):
        optimiser.zero_grad()
        loss_of(model(x, group)).backward()
        optimiser.step(torch.bincount(group, minlength=GROUPS))
        for g in set(group.tolist()):
            seen[g] += 1
            share = 1 - min(decay, (1 + seen[g]) / (10 + seen[g]))
            averages[g] += share * (model.up.detach().numpy()[:, g * RANK : (g + 1) * RANK] - averages[g])
    assert min(seen) < max(seen)
    own = copy.deepcopy(model.state_dict())
    with optimiser.averaged():
        np.testing.assert_allclose(model.up.detach().numpy(), np.concatenate(averages, axis=1), atol=1e-12)
        assert not torch.equal(model.up, own["up"])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_without_averaging_nothing_is_kept_and_nothing_changes():
    model = Stack()
    optimiser = train_grouped(model, 3)
    before = model.up.clone()
    with optimiser.averaged():
        assert torch.equal(model.up, before)
    assert not any(name.startswith("ema") for name in optimiser.state_dict())


def test_a_masked_element_keeps_its_bits_and_the_others_train_as_if_alone():
    masked, free = Stack(), Stack()
    moving = torch.zeros_like(masked.up, dtype=torch.bool)
    moving[:, 2 * RANK :] = True  # the last group alone
    masked.up.trainable_mask = moving
    masked.plain.trainable_mask = torch.tensor([True, False, False, False])
    start = copy.deepcopy(masked.state_dict())
    for model in (masked, free):
        optimiser = GroupedAdamW(model.named_parameters(), learning_rate=1e-2, weight_decay=0.1)
        x, group = torch.ones(2, IN, dtype=torch.float64), torch.tensor([2, 0])
        loss_of(model(x, group)).backward()
        if model is masked:
            assert model.up.grad[:, : 2 * RANK].abs().sum() == 0  # no part in the norm
        optimiser.step(torch.bincount(group, minlength=GROUPS))
    assert torch.equal(masked.up[~moving], start["up"][~moving])
    assert torch.equal(masked.up[moving], free.up[moving])
    assert torch.equal(masked.plain[1:], start["plain"][1:]) and masked.plain[0] == free.plain[0]


def test_the_cosine_rate_falls_from_the_warm_up_to_nothing_and_knows_nothing_of_batches():
    rates = [learning_rate_at(step, 1.0, 4, "cosine", 104) for step in range(104)]
    assert rates[0] == pytest.approx(0.2) and rates[4] == 1.0
    expected = [(1 + np.cos(np.pi * k / 100)) / 2 for k in range(100)]
    np.testing.assert_allclose(rates[4:], expected, atol=1e-12)
    assert learning_rate_at(103, 1.0, 4) == 1.0


def test_devices_without_a_fused_kernel_compute_the_same_and_leave_the_same_rows_alone():
    generator = torch.Generator().manual_seed(3)
    start = [torch.rand(3, 7, generator=generator, dtype=torch.float64) for _ in range(4)]
    start[1][2] = float("nan")  # of a row that stays
    found = []
    for fused in (True, False):
        rows = Rows(*(tensor.clone() for tensor in start), torch.tensor([0.0, 9.0, 4.0]))
        update_rows(
            *(rows, torch.tensor([True, True, False]), torch.tensor(2.0)),
            **{"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "fused": fused},
        )
        found.append(rows)
    ours, plain = found
    assert ours.steps.tolist() == plain.steps.tolist() == [1, 10, 4]
    for name in ("weights", "exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(getattr(ours, name), getattr(plain, name), rtol=1e-12, atol=0)
    for kept, rows in ((start[0], ours.weights), (start[0], plain.weights), (start[2], plain.exp_avg)):
        assert torch.equal(kept[2], rows[2]) and not torch.equal(kept[:2], rows[:2])


def test_gradients_are_divided_before_the_moments_see_them():
    divided, plain = Stack(), Stack()
    for model, divisor in ((divided, torch.tensor(4.0)), (plain, None)):
        optimiser = GroupedAdamW(model.named_parameters())
        (loss_of(model(*batches(1)[0])) * (1 if divisor is None else 4)).backward()
        optimiser.gradient_norm()
        optimiser.step(torch.ones(GROUPS), divisor=divisor)
    assert all(torch.equal(a, b) for a, b in zip(divided.parameters(), plain.parameters(), strict=True))
