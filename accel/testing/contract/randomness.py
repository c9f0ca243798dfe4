"""Tests of the random-number members."""

from __future__ import annotations

import random

import torch

from accel.testing.kit import (
    Conformance,
    covers,
    expect,
    expect_equal,
    expect_none,
    expect_raises,
    expect_type,
    on_device,
)


class RandomTests(Conformance):
    """Seeds, states and generators, with and without an index."""

    def _draw(self) -> list[float]:
        drawn = torch.rand(64, dtype=torch.float32, device=self.acc.device())
        found: list[float] = drawn.cpu().tolist()
        return found

    @on_device
    def test_seeds_repeat(self) -> None:
        """The same seed gives the same numbers, another seed others; no seed function returns."""
        for seed in (self.acc.manual_seed, self.acc.manual_seed_all):
            expect_none(f"{seed.__name__}()", seed, 1234)
            first = self._draw()
            seed(1234)
            expect(self._draw() == first, f"{seed.__name__}(1234) twice gave two sequences.")
            seed(4321)
            expect(self._draw() != first, f"{seed.__name__}() gives one sequence for two seeds.")

    @on_device
    def test_seeds_are_the_devices_alone(self) -> None:
        """Seeding changes neither Python's random numbers nor, from another device, the host's."""
        before, host = random.getstate(), torch.get_rng_state()
        self.acc.manual_seed(1)
        self.acc.manual_seed_all(2)
        expect(random.getstate() == before, "manual_seed() seeds Python's random, too.")
        if self.acc.device_type != "cpu":
            expect(torch.equal(torch.get_rng_state(), host), "manual_seed() seeds the host, too.")

    @on_device
    def test_initial_seed(self) -> None:
        """It is the int that was passed to `manual_seed`."""
        self.acc.manual_seed(99)
        found = self.acc.initial_seed()
        expect_type(found, int, "initial_seed()")
        expect_equal(found, 99, "initial_seed() after manual_seed(99)")

    @covers("rng")
    def test_states_round_trip(self) -> None:
        """Setting a state again repeats the numbers after it, with and without an index."""
        for index in ((), (self.acc.current_device(),)):
            state = self.acc.get_rng_state(*index)
            expect_type(state, torch.Tensor, f"get_rng_state{index}")
            expect_equal(state.dtype, torch.uint8, "its dtype")
            expect_equal(state.device.type, "cpu", "its device")
            first = self._draw()
            expect_none("set_rng_state()", self.acc.set_rng_state, state, *index)
            expect(self._draw() == first, f"set_rng_state(state{index}) did not bring it back.")

    @covers("rng")
    def test_all_states_round_trip(self) -> None:
        """All devices' states are a list by index; they can be set, but a longer list cannot."""
        states = self.acc.get_rng_state_all()
        expect_type(states, list, "get_rng_state_all()")
        expect_equal(len(states), self.acc.device_count(), "the number of states")
        current = states[self.acc.current_device()]
        expect(torch.equal(current, self.acc.get_rng_state()), "a state is not the device's.")
        first = self._draw()
        expect_none("set_rng_state_all()", self.acc.set_rng_state_all, states)
        expect(self._draw() == first, "set_rng_state_all() did not bring the states back.")
        error = expect_raises(
            ValueError,
            lambda: self.acc.set_rng_state_all([*states, states[0]]),
            "set_rng_state_all() with a state too many",
        )
        expect(self.acc.name in str(error), f"{error} does not name the backend.")

    @covers("rng")
    def test_states_are_copies(self) -> None:
        """Drawing numbers changes no state that was read before."""
        state = self.acc.get_rng_state()
        before = state.clone()
        self._draw()
        expect(torch.equal(state, before), "drawing numbers changed a state read before.")
        expect(not torch.equal(self.acc.get_rng_state(), before), "drawing left the state alone.")

    @on_device
    def test_default_generators(self) -> None:
        """They are torch generators on the device, and numbers are drawn from them."""
        for index in self.each_device():
            found = self.acc.default_generator(index)
            expect_type(found, torch.Generator, f"default_generator({index})")
            expect_equal(found.device.type, self.acc.device_type, "its device")
        generator = self.acc.default_generator(self.acc.current_device())
        generator.manual_seed(5)
        first = self._draw()
        generator.manual_seed(5)
        expect(self._draw() == first, "draws do not come from default_generator().")

    @on_device
    def test_random_module(self) -> None:
        """`random` gives torch's module of random-number functions."""
        found = self.acc.random()
        expect(callable(getattr(found, "manual_seed", None)), f"random() is {found!r}.")
