"""Batched optimisers: they find minima, members do not see each other, and a saved state resumes exactly."""

import math

import pytest
import torch
from safetensors.torch import load, save

from udehydro.errors import ConfigError
from udehydro.training.optimisers import ACTIVE, CONVERGED, FAILED, LBFGS, STALLED, Adam, Cosine, LBFGSState

OPTIMISERS = [LBFGS(), Adam(learning_rate=0.02, schedule=Cosine(50), clip=5.0)]


def starts(members: int, parameters: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.rand(members, parameters, generator=generator, dtype=torch.float64) - 2


def rosenbrock(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Chained Rosenbrock function, minimum 0 at ones."""
    a, b = x[:, :-1], x[:, 1:]
    rise = b - a * a
    gradient = torch.zeros_like(x)
    gradient[:, :-1] += -400 * a * rise - 2 * (1 - a)
    gradient[:, 1:] += 200 * rise
    return (100 * rise**2 + (1 - a) ** 2).sum(1), gradient


def quadratic(parameters: int):
    """Positive definite with condition number 100, minimum 0 at ones."""
    scale = torch.logspace(0, 2, parameters, dtype=torch.float64)
    rotation = torch.linalg.qr(starts(parameters, parameters, seed=3))[0]
    matrix = rotation @ torch.diag(scale) @ rotation.T

    def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradient = ((x - 1)[:, None, :] * matrix).sum(-1)  # row by row: independent of the number of members
        return 0.5 * ((x - 1) * gradient).sum(1), gradient

    return evaluate


def run(optimiser, state, evaluate, steps: int):
    for _ in range(steps):
        state = optimiser.step(state, evaluate)
    return state


def assert_same(a, b) -> None:
    a, b = a.tensors(), b.tensors()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_lbfgs_solves_rosenbrock_from_everywhere():
    lbfgs = LBFGS()
    state = lbfgs.init(starts(64, 2), rosenbrock)
    state = run(lbfgs, state, rosenbrock, 80)
    assert (state.status == CONVERGED).all()
    # gradient tolerance 1e-8 over the smallest curvature at the minimum, 0.4
    torch.testing.assert_close(state.x, torch.ones_like(state.x), rtol=0, atol=5e-8)
    # a good line search takes the first trial most of the time
    assert state.evaluations.sum() < 1.5 * state.iterations.sum()


def test_exact_line_search_ends_a_quadratic_in_p_iterations():
    """With memory >= P and exact searches L-BFGS makes conjugate directions (Nocedal 1980)."""
    lbfgs = LBFGS(memory=8, decrease=1e-9, curvature=1e-8, strong_trials=25)
    evaluate = quadratic(8)
    state = run(lbfgs, lbfgs.init(starts(5, 8), evaluate), evaluate, 60)
    assert (state.status == CONVERGED).all() and (state.iterations <= 8).all()
    torch.testing.assert_close(state.x, torch.ones_like(state.x), rtol=0, atol=1e-7)


def test_loss_never_rises():
    lbfgs = LBFGS()
    state = lbfgs.init(starts(16, 6), rosenbrock)
    for _ in range(60):
        new = lbfgs.step(state, rosenbrock)
        assert (new.loss <= state.loss * (1 + 1e-15)).all()
        loss, gradient = rosenbrock(new.x)  # what the state says of its point is true
        torch.testing.assert_close(new.loss, loss, rtol=1e-13, atol=0)
        torch.testing.assert_close(new.gradient, gradient, rtol=1e-12, atol=1e-12)
        state = new


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_members_do_not_see_each_other(optimiser):
    x = starts(7, 5)
    together = run(optimiser, optimiser.init(x, rosenbrock), rosenbrock, 40)
    for member in range(7):
        alone = optimiser.init(x[member : member + 1], rosenbrock)
        alone = run(optimiser, alone, rosenbrock, 40)
        torch.testing.assert_close(alone.x[0], together.x[member], rtol=1e-12, atol=1e-12)
        assert alone.iterations[0] == together.iterations[member]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("stop", [0, 1, 7, 20])
def test_resuming_is_exact(optimiser, stop):
    straight = run(optimiser, optimiser.init(starts(9, 4), rosenbrock), rosenbrock, 40)
    state = run(optimiser, optimiser.init(starts(9, 4), rosenbrock), rosenbrock, stop)
    state = optimiser.resume(load(save(state.tensors())))
    assert_same(run(optimiser, state, rosenbrock, 40 - stop), straight)


def test_a_state_of_another_optimiser_is_refused():
    with pytest.raises(ConfigError, match="LBFGSState: missing .*direction"):
        LBFGS().resume(Adam().init(starts(1, 2), rosenbrock).tensors())
    assert LBFGSState.from_tensors(LBFGS().init(starts(1, 2), rosenbrock).tensors()).active.all()


@pytest.mark.parametrize("optimiser", [LBFGS(), Adam(learning_rate=0.3, schedule=Cosine(300))])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_non_finite_region_is_never_entered(optimiser, where):
    """Minimum at 1, wall at 1.05: nothing but NaN beyond it."""

    def evaluate(x):
        loss, gradient = (10 * (x - 1) ** 2).sum(1), 20 * (x - 1)
        beyond = (x > 1.05).any(1)
        if where == "loss":
            return torch.where(beyond, math.nan, loss), gradient
        return loss, torch.where(beyond[:, None], math.inf, gradient)

    x = starts(32, 3) - 2
    state = optimiser.init(x, evaluate)
    for _ in range(300):
        state = optimiser.step(state, evaluate)
        assert (state.x <= 1.05).all() and state.loss.isfinite().all() and state.gradient.isfinite().all()
    torch.testing.assert_close(state.x, torch.ones_like(x), rtol=0, atol=1e-3)
    if isinstance(optimiser, Adam):
        assert (state.skipped > 0).any()
        assert (state.iterations + state.skipped == 300).all()


def test_a_member_that_starts_badly_fails_alone():
    def evaluate(x):
        loss, gradient = rosenbrock(x)
        bad = x[:, 0] > 5
        return torch.where(bad, math.nan, loss), torch.where(bad[:, None], math.nan, gradient)

    x = starts(3, 2)
    x[1] = 9.0
    lbfgs = LBFGS()
    state = run(lbfgs, lbfgs.init(x, evaluate), evaluate, 80)
    assert state.status.tolist() == [CONVERGED, FAILED, CONVERGED]
    assert torch.equal(state.x[1], x[1]) and state.loss[1] == math.inf and state.evaluations[1] == 1


def test_a_wrong_gradient_stalls_after_one_restart():
    """Uphill gradients make every search fail; only the member that has them stops."""
    flipped = torch.tensor([False, True])
    wrong = False

    def evaluate(x):
        loss, gradient = rosenbrock(x)
        return loss, torch.where(flipped[:, None] & wrong, -gradient, gradient)

    lbfgs = LBFGS(max_trials=8)
    state = run(lbfgs, lbfgs.init(starts(2, 2), evaluate), evaluate, 5)
    wrong = True
    state = LBFGSState.from_tensors(state.tensors() | {"gradient": evaluate(state.x)[1]})
    history = [state := lbfgs.step(state, evaluate) for _ in range(100)]
    assert state.status.tolist() == [CONVERGED, STALLED]
    forgot = [h for h in history if h.status[1] == ACTIVE and not h.weights[1].any()]
    assert len(forgot) == 8  # the restart along the bare gradient, tried max_trials times


def test_idle_members_stay_and_are_evaluated_where_they_are():
    seen = []

    def evaluate(x):
        seen.append(x.clone())
        return quadratic(3)(x)

    lbfgs = LBFGS()
    x = starts(2, 3)
    x[0] = 1.0  # the minimum
    state = run(lbfgs, lbfgs.init(x, evaluate), evaluate, 10)
    assert state.status[0] == CONVERGED and state.evaluations[0] == 1
    assert all(torch.equal(points[0], x[0]) for points in seen)


def test_kinks_do_not_stop_lbfgs():
    """|x - 1| summed, with different slopes: no strong-Wolfe point exists across a kink."""
    slopes = torch.tensor([1.0, 3.0], dtype=torch.float64)

    def evaluate(x):
        return (slopes * (x - 1).abs()).sum(1), slopes * torch.where(x > 1, 1.0, -1.0)

    lbfgs = LBFGS()
    state = run(lbfgs, lbfgs.init(starts(16, 2), evaluate), evaluate, 300)
    assert (state.loss < 1e-3).all()


def test_step_limits_hold():
    far = torch.full((4, 3), 30.0, dtype=torch.float64)
    lbfgs = LBFGS(first_step=0.01, max_step=0.5)
    evaluate = quadratic(3)
    seen = []
    state = lbfgs.init(far, evaluate)
    for step in range(30):
        new = lbfgs.step(state, lambda x: (seen.append(x), evaluate(x))[1])
        reach = (seen[-1] - state.x).norm(dim=1)
        assert (reach <= (0.01 if step == 0 else 0.5) * (1 + 1e-12)).all()
        state = new
    assert (state.loss < evaluate(far)[0]).all()


def test_adam_is_torchs_adam():
    x = starts(6, 4)
    reference = x.clone().requires_grad_()
    torch_adam = torch.optim.Adam([reference], lr=0.03)
    for _ in range(50):
        reference.grad = rosenbrock(reference.detach())[1]
        torch_adam.step()
    adam = Adam(learning_rate=0.03)
    state = run(adam, adam.init(x, rosenbrock), rosenbrock, 50)
    torch.testing.assert_close(state.x, reference.detach(), rtol=1e-12, atol=1e-12)


def test_adam_reaches_the_minimum_with_a_cosine():
    def bowl(x):
        return ((x - 1) ** 2).sum(1), 2 * (x - 1)

    adam = Adam(learning_rate=0.1, schedule=Cosine(400))
    state = run(adam, adam.init(starts(8, 4), bowl), bowl, 400)
    assert (state.loss < 1e-6).all()
    stopped = adam.step(state, bowl)
    assert torch.equal(stopped.x, state.x)  # the schedule has ended at 0


def test_cosine_and_clip():
    steps = torch.tensor([0.0, 5.0, 10.0, 99.0], dtype=torch.float64)
    torch.testing.assert_close(Cosine(10, floor=0.2)(steps), steps.new_tensor([1.0, 0.6, 0.2, 0.2]))
    adam = Adam(clip=1e-3, betas=(0.0, 0.999))
    state = adam.step(adam.init(starts(4, 3), rosenbrock), rosenbrock)
    norm = (state.square / (1 - 0.999)).sum(1).sqrt()
    torch.testing.assert_close(norm, torch.full_like(norm, 1e-3))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_single_precision_stays_and_converges(optimiser):
    evaluate = quadratic(3)
    single = lambda x: tuple(part.float() for part in evaluate(x.double()))  # noqa: E731
    state = run(optimiser, optimiser.init(starts(4, 3).float(), single), single, 60)
    kinds = {tensor.dtype for tensor in state.tensors().values()}
    assert kinds == {torch.float32, torch.int64}
    if isinstance(optimiser, LBFGS):
        assert (state.loss < 1e-8).all() and (state.status == CONVERGED).all()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_steps_never_wait_for_the_device(optimiser):
    """On the meta device any host synchronisation or stray default-device tensor raises."""
    x = torch.empty(4, 3, dtype=torch.float64, device="meta")
    state = run(optimiser, optimiser.init(x, rosenbrock), rosenbrock, 2)
    assert state.x.is_meta and state.active.shape == (4,)


def test_the_start_is_not_changed():
    x = starts(2, 2)
    kept = x.clone()
    run(LBFGS(), LBFGS().init(x, rosenbrock), rosenbrock, 5)
    assert torch.equal(x, kept)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"\(member, parameter\)"):
        LBFGS().init(torch.zeros(3, dtype=torch.float64), rosenbrock)
    with pytest.raises(ConfigError, match="one loss per member"):
        Adam().init(starts(2, 2), lambda x: (x.sum(), x))
    for make in (
        lambda: LBFGS(memory=0),
        lambda: LBFGS(decrease=0.95),
        lambda: LBFGS(first_step=0.0),
        lambda: Adam(learning_rate=0.0),
        lambda: Adam(betas=(0.9, 1.0)),
        lambda: Cosine(0),
    ):
        with pytest.raises(ConfigError, match="needs"):
            make()
