"""Graphs of swapped batches, rehearsed without a GPU: in place of a graph stands what also overwrites its output."""

import copy
import pickle
import types

import pytest
import torch
from conftest import LABELS

from glico_augment import SwapConfig
from glico_augment.synthesis import graphs
from glico_augment.synthesis.graphs import SwapGraphs


class Rehearsed:
    """A step that has one place for its output, as a graph has, and takes inputs of one shape."""

    def __init__(self, function, *, is_wanted, warm_up, memory):
        assert is_wanted
        assert warm_up == 1
        self.function, self.memory = function, memory
        self.shapes = self.output = None

    def __call__(self, *inputs):
        shapes = [None if given is None else given.shape for given in inputs]
        made = self.function(*inputs)
        if self.output is None:
            self.shapes, self.output = shapes, made
        assert shapes == self.shapes
        for kept, new in zip(self.output, made, strict=True):
            kept.copy_(new)
        return self.output


@pytest.fixture
def make(augment, monkeypatch):
    """``augment.make`` by the way of a CUDA device."""
    stream = types.SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(graphs, "GraphMemory", lambda device: object())
    monkeypatch.setattr(graphs, "CapturedStep", Rehearsed)
    monkeypatch.setattr("glico_augment.synthesis.synthesizer.can_capture", lambda device: True)
    augment.max_ratio, augment.noise_std = 0.0, 0.0  # so that an image is the reconstruction of its anchor
    return augment.make


def test_each_image_is_of_its_own_row_whatever_their_number(augment, make):
    calls = [(count, step) for step, count in enumerate([1, 5, 24, 9, 24, 5, 11, 9])]
    labels, anchors = LABELS.repeat(3), torch.arange(len(LABELS)).repeat(3)
    made = [make(labels.roll(step)[:count], anchors=anchors.roll(step)[:count]) for count, step in calls]
    for (count, step), (images, is_known) in zip(calls, made, strict=True):
        expected = augment.reconstruct(anchors.roll(step)[:count])
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
        assert is_known.tolist() == [True] * count
    assert len(augment._graphs._graphs) == 5  # 9 and 11 images are made by those of 10 and 12
    images, is_known = make(torch.tensor([LABELS[0], 12345, LABELS[3]]))
    assert len(images) == 3
    assert is_known.tolist() == [True, False, True]
    assert make(LABELS[:0])[0].shape == (0, *augment.images.shape[1:])


def test_a_graph_is_of_what_is_read_and_there_are_never_too_many(augment, make, monkeypatch):
    monkeypatch.setattr(graphs, "_MAX_GRAPHS", 3)
    for p in (0.1, 0.2, 0.3):
        augment.p = p
        make(LABELS)
    assert len(augment._graphs._graphs) == 1
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5):
        augment.max_ratio = ratio
        make(LABELS)
        assert 1 <= len(augment._graphs._graphs) <= 3
    augment.max_ratio = 0.0
    anchors = torch.arange(len(LABELS))
    torch.testing.assert_close(make(LABELS, anchors=anchors)[0], augment.reconstruct(), atol=1e-5, rtol=0)


def test_every_setting_that_makes_another_image_has_a_graph_of_its_own(augment, make):
    make(LABELS)
    others = {
        "max_ratio": 0.3,
        "cells": 2,
        "carry": True,
        "interpolation": "lerp",
        "noise_std": 0.7,
        "sampler": "noise",
        "sampler_std": 0.5,
        "min_angle": 0.5,
    }
    assert {"p", *others} == set(SwapConfig.names())
    for count, (name, value) in enumerate(others.items(), 2):
        setattr(augment, name, value)
        make(LABELS)
        assert len(augment._graphs._graphs) == count


def test_what_is_large_or_made_on_the_cpu_has_no_graph(augment, make, monkeypatch):
    augment.sampler = "random-out"
    make(LABELS)
    augment.sampler = "same-class"
    _, height, width = augment.images.shape[1:]
    monkeypatch.setattr(graphs, "_MAX_PIXELS", len(LABELS) * height * width)
    make(LABELS.repeat(2))
    assert not augment._graphs._graphs
    make(LABELS)
    assert len(augment._graphs._graphs) == 1


def test_graphs_of_one_place_share_their_memory_and_of_others_do_not(make, augment, monkeypatch):
    make(LABELS)
    make(LABELS[:3])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=1))
    make(LABELS)
    first, second, third = (graph.memory for graph in augment._graphs._graphs.values())
    assert first is second
    assert first is not third


def test_graphs_are_not_copied(augment, make):
    make(LABELS)
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert isinstance(other._graphs, SwapGraphs)
        assert not other._graphs._graphs
