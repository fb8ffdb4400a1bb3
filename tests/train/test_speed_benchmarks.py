"""What the benchmarks of speed compare is comparable: equal results on the same weights, honest loops."""

from __future__ import annotations

import pytest
import torch

POLARITY_OF = (0, 0, 1)


@pytest.fixture()
def inputs(base):
    from benchmarks.routing.forms import Inputs

    generator = torch.Generator().manual_seed(0)
    return Inputs(
        noisy=torch.randn(5, 4, 8, 8, generator=generator),
        timesteps=torch.arange(5) * 200,
        hidden=torch.randn(5, base.max_length, base.cross_attention_dim, generator=generator),
        emotions=torch.tensor([2, 0, 2, 1, 0]),
    )


@pytest.fixture()
def hilora(base):
    from benchmarks.routing.forms import filled
    from coemogen_train.adapter.hilora import HiLoRA

    torch.manual_seed(0)
    return filled(HiLoRA.for_unet(base.unet, POLARITY_OF, 2))


@pytest.mark.parametrize("name", ["Gathered", "Looped", "Masked"])
def test_other_forms_of_routing_give_the_outputs_and_gradients_of_the_stacked_one(base, hilora, inputs, name):
    from benchmarks.measuring.twins import twin
    from benchmarks.routing import forms

    stacked = forms.Stacked(twin(base.unet), hilora)
    other = getattr(forms, name)(twin(base.unet), hilora)
    assert forms.largest_difference(other, stacked, inputs) < 1e-5


def test_a_sample_routed_elsewhere_is_a_difference(base, hilora, inputs):
    from dataclasses import replace

    from benchmarks.measuring.twins import twin
    from benchmarks.routing.forms import Looped, Stacked, largest_difference

    class Astray(Looped):
        def step(self, inputs):
            return super().step(replace(inputs, emotions=inputs.emotions.roll(1)))

    astray, stacked = Astray(twin(base.unet), hilora), Stacked(twin(base.unet), hilora)
    assert largest_difference(astray, stacked, inputs) > 1e-2


def test_a_twin_has_the_weights_and_not_what_is_attached(base, hilora, inputs):
    from benchmarks.measuring.twins import twin
    from benchmarks.routing.forms import Bare, Stacked

    beside = twin(base.unet)
    before = Bare(base.unet).step(inputs).prediction
    changed = Stacked(beside, hilora).step(inputs).prediction
    assert beside.conv_in.weight is base.unet.conv_in.weight
    assert torch.equal(Bare(base.unet).step(inputs).prediction, before)
    assert not torch.equal(changed, before)


def test_the_plain_loop_trains_lora_and_nothing_else(base, tmp_path):
    from benchmarks.measuring.twins import twin
    from benchmarks.step.plain_loop import PlainLoop, write_pictures

    files = write_pictures(tmp_path, 4, 16)
    loop = PlainLoop(base, twin(base.unet), files, ["a tree"] * 4, batch=2)
    before = {name: weight.detach().clone() for name, weight in loop.unet.named_parameters()}
    losses = [loop.step() for _ in range(3)]  # over the end of the pictures
    moved = {name for name, weight in loop.unet.named_parameters() if not weight.equal(before[name])}
    assert all(0 < loss < 100 for loss in losses)
    assert moved == {name for name in before if "lora_" in name}


def test_the_floor_of_a_step_has_nothing_on_it_and_reaches_the_condition_alone(base, tmp_path):
    from benchmarks.step.sides import Case, Sides
    from coemogen_train.base.model import freeze

    for part in (base.unet, base.text_encoder):
        freeze(part, "cpu", torch.float32)
    sides = Sides(base, tmp_path)
    sides.works(Case("toy", 2, 16), ["floor"])["floor"]()
    parts = list(sides.bare.modules())
    assert any(module._forward_hooks for module in base.unet.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in parts)
    assert not any(tensor.requires_grad for tensor in (*sides.bare.parameters(), *sides.bare.buffers()))
    assert all(weight.grad is None for weight in sides.objective.parameters())


def answered(module, told, tmp_path):
    """What a benchmark's file has of its figures."""
    import json

    from benchmarks.measuring.answer import Question, write_json

    name = module.__name__.rpartition(".")[2]
    write_json(Question("", name).ask(["--out", str(tmp_path), "--device", "cpu"]), name, told)
    return json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))


def made_rounds(names):
    from benchmarks.measuring.rounds import Rounds

    rounds = Rounds()
    for place, name in enumerate(names):
        for number in range(3):
            rounds.add(number, name, 1.0 + place + number)
    return rounds


def assert_spreads(told, names):
    assert all(told[name]["low"] <= told[name]["median"] <= told[name]["high"] for name in names)
    assert all(set(told[name]) == {"median", "low", "high"} for name in names)


def test_the_answer_about_a_step_is_of_sd15s_shape_with_the_toys_beside_it(tmp_path):
    from benchmarks.step import __main__ as step
    from benchmarks.step.sides import SIDES, Case

    cases = [Case("toy", 32, 64), Case("sd15", 1, 512)]
    told = answered(
        step, step.told_of([step.Measured(case, made_rounds(SIDES)) for case in cases], []), tmp_path
    )
    assert_spreads(told, step.RATIOS)
    assert_spreads(told["toy"], step.RATIOS)
    assert {"step_vs_floor", "pictures_vs_plain_loop"} <= set(step.RATIOS)
    assert told["case"]["size"] == "sd15" and told["toy"]["case"]["size"] == "toy"


def test_the_answer_about_routing_is_of_sd15s_shape_and_says_what_is_not_equal(tmp_path):
    from benchmarks.routing import __main__ as routing
    from benchmarks.step.sides import Case

    found = []
    for case, apart in ((Case("toy", 32, 64), 1e-6), (Case("sd15", 32, 128), 1.0)):
        figures = routing._figures(made_rounds(routing.FORMS), case)
        found.append(
            (case, {**figures, "case": case.to_dict(), "on": "cpu", "largest_difference": {"loop": apart}})
        )
    told = answered(routing, routing.told_of(found), tmp_path)
    assert_spreads(told, routing.RATIOS)
    assert_spreads(told["toy"], routing.RATIOS)
    assert {"mixed_vs_plain_lora", "loop_vs_mixed"} <= set(routing.RATIOS)
    assert told["case"]["size"] == "sd15" and told["toy"]["case"]["size"] == "toy"
    assert len(told["not_equal"]) == 1 and "SD 1.5" in told["not_equal"][0]


def test_every_second_round_takes_the_reverse_of_the_one_before(monkeypatch):
    from benchmarks.measuring.rounds import interleave

    monkeypatch.setattr("gc.collect", lambda: 0)  # it takes long among all that tests have imported
    done: list[str] = []
    interleave({name: lambda name=name: done.append(name) for name in "abcd"}, 4, warm_up=1, warmed="b")
    assert done[0] == "b"
    rounds = [done[begin : begin + 4] for begin in range(1, 17, 4)]
    assert rounds[1] == rounds[0][::-1] and rounds[3] == rounds[2][::-1]


def test_a_broken_plot_is_one_line_and_a_missing_package_one_sentence(capsys):
    from benchmarks.measuring.answer import Question, plot_or_warn

    def broken():
        raise RuntimeError("no fonts\nat all")

    plot_or_warn(broken)
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        Question("", "step", needs=("no_such_package",)).ask([])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
