"""The public tests of derivatives: they pass what is right, find what is wrong, and tell kinks and round-off apart."""

import math

import pytest
import torch

from udehydro import ConfigError
from udehydro.sensitivity import differences, dot_product_test, taylor_test

torch.set_default_dtype(torch.float64)


class TestDifferences:
    x = torch.tensor([0.5, 1.0, 2.0, 1.0])

    @staticmethod
    def function(points):
        a, b, c, d = points.unbind(1)
        return torch.exp(3 * a) + (b - 1.0).abs() + (c - 2.0005).abs() + d

    gradient = torch.tensor([3 * math.exp(1.5), 0.0, -1.0, 1.0])

    def test_kinks(self):
        """A kink at the point and one inside the stencil are left out, a curved entry is not."""
        found = differences(self.function, self.x).against(self.gradient)
        assert found.error < 1e-8 and found.excluded == 1 and found.size == 4 and not found.unseen

    @pytest.mark.parametrize("entry", [0, 2, 3])
    def test_a_wrong_entry(self, entry):
        wrong = self.gradient.clone()
        wrong[entry] *= 1.01
        assert differences(self.function, self.x).against(wrong).error > 5e-4

    def test_every_element_of_a_batch_by_itself(self):
        """Two functions at once, the gradient of one of which is wrong."""
        both = differences(lambda p: torch.stack([p.square().sum(1), p.prod(1)], dim=1), self.x)
        gradient = torch.stack([2 * self.x, self.x.prod() / self.x], dim=1)
        gradient[1, 1] += 0.1
        error = both.against(gradient).error
        assert error[0] < 1e-9 and error[1] > 1e-2

    def test_what_round_off_hides(self):
        """The value is so large that differences do not see a slope of 1e-9, nor that it is wrong."""
        found = differences(lambda p: 1e6 + 1e-9 * p[:, 0], torch.ones(1)).against(torch.tensor([2e-9]))
        assert found.unseen and found.error == 0.0
        seen = differences(lambda p: 1e6 + p[:, 0], torch.ones(1)).against(torch.tensor([2.0]))
        # values of 1e6 are good to 1e-10, a difference over a step of 0.01 to 1e-8; best over the steps flatters
        assert not seen.unseen and seen.error == pytest.approx(0.5, abs=1e-4)

    def test_a_weak_kink_at_the_point(self):
        """Slopes of 1 and 1.04: round-off hides the kink from the smallest steps, which must not clear it."""

        def function(points):
            x = points[:, 0]
            return 10.0 + 1e-4 * torch.where(x > 1.0, x, 1.04 * x - 0.04)

        found = differences(function, torch.ones(1)).against(torch.tensor([1e-4]))
        assert found.excluded == 1

    def test_what_only_large_steps_see(self):
        """A slope of 1e-8 of the value is lost in round-off at the smallest steps, which must not clear it."""
        found = differences(lambda p: 1.0 + 1e-8 * p[:, 0], torch.ones(1))
        wrong, detached, right = (found.against(torch.tensor([g])) for g in (2e-8, 0.0, 1e-8))
        # a difference over a step of 0.01 is good to 2e-11 or so
        assert wrong.error == pytest.approx(0.5, abs=0.01) and detached.error == math.inf and right.error < 0.01
        assert not (wrong.unseen or detached.unseen or right.unseen)

    @pytest.mark.parametrize("slope", [0.0, 1e-9])
    def test_truncation_is_not_taken_for_a_slope(self, slope):
        found = differences(lambda p: 1.0 + slope * p[:, 0] + p[:, 0] ** 3, torch.zeros(1))
        found = found.against(torch.tensor([slope]))
        assert found.error == 0.0 and found.unseen

    def test_single_precision(self):
        """Round-off is that of float32: it is taken for no kink, nor for an error."""
        x, function = torch.tensor([0.5, 2.0]).float(), lambda p: torch.exp(p[:, 0]) + p[:, 1].square()
        gradient = torch.tensor([math.exp(0.5), 4.0]).float()
        found = differences(function, x)
        # values of 6 are good to 5e-7, a difference over a step of 0.005 to 1e-4
        assert found.against(gradient).error < 1e-3 and found.against(gradient).excluded == 0
        assert found.against(gradient * torch.tensor([1.2, 1.0]).float()).error > 0.03
        assert taylor_test(lambda x: 3.0 * x.sum(), x).order == math.inf

    def test_only_kinks(self):
        found = differences(lambda p: p[:, 0].abs(), torch.zeros(1)).against(torch.zeros(1))
        assert found.excluded == 1 and found.error == math.inf

    def test_bad_input(self):
        with pytest.raises(ConfigError, match="largest first"):
            differences(self.function, self.x, steps=(1e-5, 1e-3))
        with pytest.raises(ConfigError, match="shape"):
            differences(self.function, self.x).against(self.gradient[:2])


class TestTaylor:
    x = torch.tensor([[0.3, -1.2], [2.0, 0.0]])

    @staticmethod
    def function(x):
        return torch.sin(x).sum() + x.prod(1).sum() + x[1, 1].exp()

    def test_the_right_gradient(self):
        found = taylor_test(self.function, self.x)
        assert found.order == pytest.approx(2.0, abs=0.05)
        assert taylor_test(self.function, self.x, direction=torch.eye(2)).order == pytest.approx(2.0, abs=0.05)

    def test_a_wrong_one(self):
        leaf = self.x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.function(leaf), leaf)
        wrong = gradient + torch.tensor([[0.0, 0.0], [0.01, 0.0]])
        found = taylor_test(self.function, self.x, gradient=wrong, steps=tuple(1e-3 * 0.5**i for i in range(6)))
        assert found.order == pytest.approx(1.0, abs=0.1)

    def test_a_linear_function_has_no_remainder(self):
        assert taylor_test(lambda x: 3.0 * x.sum(), self.x).order == math.inf


class TestDotProduct:
    matrix = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    u, w = torch.arange(1.0, 4.0), torch.arange(-2.0, 3.0)

    def test_it_tells_the_transpose(self):
        a = self.matrix
        assert dot_product_test(lambda u: a @ u, lambda w: a.T @ w, self.u, self.w) < 1e-15
        assert dot_product_test(lambda u: a @ u, lambda w: 1.001 * (a.T @ w), self.u, self.w) > 1e-5

    def test_a_map_to_zero(self):
        zero = torch.zeros(5, 3)
        assert dot_product_test(lambda u: zero @ u, lambda w: zero.T @ w, self.u, self.w) == 0.0
