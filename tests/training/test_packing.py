"""The state of a run in few bytes: what is rounded, and that it comes back as it was rounded."""

import pytest
import torch

from portrait_anim.training import packing


def network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Linear(8, 4))
    net.to(memory_format=torch.channels_last)
    return net, list(net.parameters())


def learned(net, parameters, steps=3):
    """The state after steps in which the last layer had no part."""
    optimiser = torch.optim.Adam(parameters, 1e-2, (0.9, 0.99), fused=True)
    average = [p.detach().clone() for p in parameters]
    for _ in range(steps):
        optimiser.zero_grad()
        net[:2](torch.randn(2, 3, 9, 9)).square().mean().backward()
        optimiser.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 0.1)
    return optimiser, average


def test_what_is_restored_is_what_was_settled_bit_by_bit_and_goes_on_alike():
    net, parameters = network()
    optimiser, average = learned(net, parameters)
    state = packing.compressed(packing.settle(parameters, optimiser, average))
    other, own = network()
    other_optimiser = torch.optim.Adam(own, 1e-2, (0.9, 0.99), fused=True)
    other_average = [torch.zeros_like(p) for p in own]
    packing.restore(packing.expanded(state), own, other_optimiser, other_average)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip([*parameters, *average], [*own, *other_average]))
        for a, b in zip(parameters[:4], own):
            one, two = optimiser.state[a], other_optimiser.state[b]
            assert all(torch.equal(one[key], two[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
        assert not other_optimiser.state.get(own[4])
        x = torch.randn(2, 3, 9, 9)
        for n, o in ((net, optimiser), (other, other_optimiser)):
            o.zero_grad()
            n[:2](x).square().mean().backward()
            o.step()


def test_rounding_is_as_fine_as_it_says_and_done_twice_changes_nothing():
    net, parameters = network()
    optimiser, average = learned(net, parameters)
    before = [p.detach().clone() for p in parameters]
    apart = [a - p for a, p in zip(average, before)]
    moments = [{k: v.clone() for k, v in optimiser.state[p].items()} for p in parameters[:4]]
    packing.settle(parameters, optimiser, average)
    for p, old, mean, difference in zip(parameters, before, average, apart):
        assert ((p - old).abs() <= old.abs() * 2**-16).all() and not torch.equal(p, old)
        assert ((mean - p - difference).abs() <= difference.abs() * 2**-8 + old.abs() * 2**-15).all()
    for p, old in zip(parameters, moments):
        now = optimiser.state[p]
        for value, was in ((now["exp_avg"], old["exp_avg"]), (now["exp_avg_sq"].sqrt(), old["exp_avg_sq"].sqrt())):
            assert ((value - was).abs() <= was.abs() / 15 + was.abs().max() / 448 / 512).all()
        assert (now["exp_avg_sq"] > 0).all() and now["step"] == 3
    values = lambda: [*parameters, *average, *(v for p in parameters[:4] for v in optimiser.state[p].values())]
    first = [value.detach().clone() for value in values()]
    packing.settle(parameters, optimiser, average)
    assert all(torch.equal(p, q) for p, q in zip(values(), first))  # else a run that goes on would be another


def test_it_takes_seven_bytes_a_weight_or_fewer():
    weights = torch.nn.Parameter(torch.randn(200_000) * 0.05)
    optimiser = torch.optim.Adam([weights], fused=True)
    weights.grad = torch.randn_like(weights)
    optimiser.step()
    state = packing.compressed(packing.settle([weights], optimiser, [weights.detach() + 1e-3]))
    assert sum(plane.numel() for plane in state["planes"]) < 7 * 200_000


def test_a_state_of_other_networks_is_refused():
    net, parameters = network()
    state = packing.settle(parameters, *learned(net, parameters))
    with pytest.raises(ValueError, match="other networks"):
        packing.restore(state, parameters[:3], torch.optim.Adam(parameters), None)
