"""One light and one heavy request work at a time: light ones together, heavy ones in slices."""

from __future__ import annotations

import math
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from app import scheduler
from app.scheduler import CHUNK, MOST_TOGETHER, MOST_WAITING, Scheduler
from tasks.problems import Busy


class Network:
    """Gives back what it is given, and remembers how much that was; waits for `open`."""

    def __init__(self):
        self.sizes = []
        self.open = threading.Event()

    def __call__(self, pixels):
        assert self.open.wait(10)
        self.sizes.append(len(pixels))
        return pixels


def classified(turns):
    """What a light request for one picture is answered."""
    with turns.turn(light=True) as turn:
        return turn.classify(lambda pixels: pixels, np.ones((1, 1)))


class Crowd:
    """Requests that come one after the other while the first is at work."""

    def __init__(self, network):
        self.turns, self.network = Scheduler(), network
        self.answers, self.served, self.threads = {}, [], []

    def come(self, name, light=True, count=1, fails=False):
        network = self.network
        lane = self.turns.light if light else self.turns.heavy

        def ask():
            try:
                with self.turns.turn(light=light) as turn:
                    self.served.append(name)
                    if fails:
                        raise ValueError("before")
                    pixels = np.full((count, 1), name)
                    answer = turn.classify(network, pixels)
                assert answer.shape == (count, 1)
                self.answers[name] = int(answer[0, 0])
            except (ValueError, RuntimeError) as error:
                self.answers[name] = str(error)

        thread = threading.Thread(target=ask)
        was_busy, before = lane.busy, len(lane.waiting)
        thread.start()
        self.threads.append(thread)
        while thread.is_alive() and not (lane.busy and len(lane.waiting) == before + was_busy):
            time.sleep(0.001)

    def leave(self):
        self.network.open.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        assert not self.turns.light.busy
        assert not self.turns.heavy.busy


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def crowd(network):
    crowd = Crowd(network)
    crowd.come(0)  # waits in the network until all have come
    return crowd


def test_light_requests_are_answered_in_their_order(crowd):
    for number in range(1, 20):
        crowd.come(number)
    crowd.leave()
    assert crowd.served == list(range(20))
    assert crowd.answers == {number: number for number in range(20)}


def test_light_requests_that_wait_go_through_the_network_together(crowd, network):
    for number in range(1, MOST_TOGETHER + 3):
        crowd.come(number)
    crowd.leave()
    assert network.sizes == [1, MOST_TOGETHER, 2]


def test_each_gets_the_answers_for_its_own_pictures(crowd, network):
    for number in range(1, 5):
        crowd.come(number, count=number + 1)
    crowd.leave()
    assert network.sizes == [1, 2 + 3 + 4 + 5]
    assert crowd.answers == {number: number for number in range(5)}


def test_a_light_request_does_not_wait_for_a_heavy_one_at_work():
    turns, answers = Scheduler(), []
    with turns.turn(light=False):  # such as a large picture that is decoded
        thread = threading.Thread(target=lambda: answers.append(classified(turns)))
        thread.start()
        thread.join(10)
        assert answers == [[[1]]]


def test_a_heavy_request_does_not_wait_for_light_ones(crowd, network):
    crowd.come(1)
    crowd.network = Network()
    crowd.network.open.set()
    crowd.come(2, light=False)
    crowd.threads[-1].join(10)
    assert crowd.answers == {2: 2}
    crowd.network = network
    crowd.leave()


def test_a_heavy_request_goes_on_behind_those_that_wait(network, monkeypatch):
    monkeypatch.setattr(scheduler, "SLICE", 0)
    monkeypatch.setattr(scheduler, "CHUNK", 2)
    crowd = Crowd(network)
    crowd.come(0, light=False, count=5)
    crowd.come(1, light=False)
    crowd.leave()
    assert network.sizes == [2, 1, 2, 1]
    assert crowd.answers == {0: 0, 1: 1}


def test_a_heavy_request_works_on_until_its_slice_is_used(network, monkeypatch):
    monkeypatch.setattr(scheduler, "SLICE", 60)
    crowd = Crowd(network)
    crowd.come(0, light=False, count=3 * CHUNK)
    crowd.come(1, light=False)
    crowd.leave()
    assert network.sizes == [CHUNK, CHUNK, CHUNK, 1]


def test_a_heavy_request_stops_when_its_time_is_up():
    turns = Scheduler()
    with turns.turn(light=False, seconds=-1) as turn:
        pixels = np.zeros((scheduler.CHUNK + 1, 1))
        assert turn.expired
        assert turn.classify(lambda pixels: pixels, pixels) is None
    assert not turns.heavy.busy


def test_a_heavy_request_that_has_waited_too_long_leaves(network, monkeypatch):
    monkeypatch.setattr(scheduler, "SLICE", 0)
    turns, ends = Scheduler(), []

    def ask():
        try:
            with turns.turn(light=False, patience=0.01):
                ends.append("served")
        except Busy as problem:
            ends.append(problem.headers["Retry-After"])

    thread = threading.Thread(target=ask)
    with turns.turn(light=False):
        thread.start()
        while not turns.heavy.waiting:
            time.sleep(0.001)
        time.sleep(0.02)
    thread.join(10)
    assert ends == ["1"]
    assert not turns.heavy.busy  # the turn that it was given is passed on


def test_a_heavy_request_is_refused_where_those_before_it_take_too_long(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("app.scheduler.time.thread_time", lambda: clock[0])
    turns = Scheduler()
    with turns.turn(light=False, patience=5):
        clock[0] += 40  # so that a request usually takes 10 s
    with turns.turn(light=False, patience=5):
        with pytest.raises(Busy) as refused, turns.turn(light=False, patience=5):
            pass
        assert refused.value.headers == {"Retry-After": "10"}
        assert classified(turns) == [[1]]  # light ones are served
    with turns.turn(light=False, patience=5):  # nobody is before it
        pass


def test_a_light_request_with_much_to_classify_goes_in_slices(crowd, network):
    crowd.come(1)
    crowd.come(2, count=2 * CHUNK)
    crowd.come(3)
    crowd.leave()
    assert network.sizes == [1, 1, CHUNK, 1, CHUNK]  # those before it do not wait for all of it
    assert crowd.answers == {number: number for number in range(4)}


def test_light_requests_go_together_only_while_they_are_few_pictures(crowd, network):
    for number in (1, 2, 3):
        crowd.come(number, count=CHUNK - 1)
    crowd.leave()
    assert network.sizes == [1, 2 * (CHUNK - 1), CHUNK - 1]


def test_networks_are_not_mixed(crowd, network):
    other = Network()
    other.open.set()
    crowd.come(1)
    crowd.network = other
    crowd.come(2)
    crowd.network = network
    crowd.leave()
    assert (network.sizes, other.sizes) == ([1, 1], [1])


def test_one_that_fails_leaves_the_others_their_answers(crowd):
    for number in (1, 2):
        crowd.come(number)
    crowd.come(3, fails=True)
    crowd.come(4)
    crowd.come(5, fails=True)  # the last one leaves pixels of others behind
    crowd.leave()
    assert crowd.answers == {0: 0, 1: 1, 2: 2, 4: 4, 3: "before", 5: "before"}


def test_a_network_that_fails_fails_all_who_went_together_and_no_one_after(crowd, network):
    def broken(pixels):
        raise ValueError("broken")

    crowd.network = broken
    crowd.come(1)
    crowd.come(2)
    crowd.network = network
    crowd.come(3)
    crowd.leave()
    assert crowd.answers == {0: 0, 1: "the network failed", 2: "the network failed", 3: 3}


def test_a_thread_that_is_ended_leaves_no_one_waiting():
    turns = Scheduler()
    for light in (True, False):
        with pytest.raises(SystemExit), turns.turn(light=light):
            raise SystemExit
        assert not turns.light.busy
        assert not turns.heavy.busy


def test_what_a_light_request_took_is_without_the_shared_pass(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("app.scheduler.time.thread_time", lambda: clock[0])

    def slow(pixels):
        clock[0] += 5
        return pixels

    with Scheduler().turn(light=True) as turn:
        clock[0] += 1
        turn.classify(slow, np.ones((1, 1)))
        assert turn.taken == 1


def test_many_threads_all_get_their_answers(monkeypatch):
    monkeypatch.setattr(scheduler, "SLICE", 0)
    monkeypatch.setattr(scheduler, "CHUNK", 2)
    turns, wrong = Scheduler(), []

    def ask(number):
        for each in range(100):
            pixels = np.full((1 + each % 4, 1), 1000 * number + each)
            with turns.turn(light=(number + each) % 3 > 0) as turn:
                if (number + each) % 7 == 0:
                    continue  # nothing was found to classify
                answer = turn.classify(lambda pixels: pixels, pixels)
            if not np.array_equal(answer, pixels):
                wrong.append(each)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong
    assert not turns.light.busy
    assert not turns.heavy.busy


def test_so_many_heavy_requests_wait_that_threads_are_left_for_light_ones():
    lane = Scheduler().heavy
    with ExitStack() as stack:
        for _ in range(MOST_WAITING):
            stack.enter_context(lane.place(math.inf))
        with pytest.raises(Busy):
            stack.enter_context(lane.place(math.inf))
    with lane.place(math.inf):
        pass
