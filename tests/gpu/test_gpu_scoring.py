"""Inference on a GPU: copies, streams, and memory that runs out."""

import gc

import numpy as np
import pytest
import torch
from helpers.models import randomize_norms, small_model
from helpers.synthetic import train_dataset, view_dataset

from ops.data.clips import Failure, Frames
from ops.data.loader import Batch, ShardSampler, make_loader
from ops.distributed import World, choose_device
from ops.inference import score_views
from ops.utils.errors import UserError

pytestmark = pytest.mark.gpu

VIDEOS = 12
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    model = randomize_norms(small_model("tsm", input_size=32))
    torch.nn.init.normal_(model.head.weight)
    return model


def scores_of(model, dataset, device, workers=0, **options):
    """The logits of all videos, by their place in the list."""
    loader = make_loader(
        dataset,
        ShardSampler(len(dataset)),
        None,
        workers=workers,
        pin_memory=device.type == "cuda",
        in_order=False,
    )
    done = {}
    with loader:
        world = World(0, 1, device)
        score_views(model.to(device), loader, world, done.__setitem__, pytest.fail, **options)
    assert sorted(done) == list(range(len(dataset)))
    return np.stack([done[index] for index in sorted(done)])


def one_by_one(model, dataset, device):
    """The same without loader, streams and batches: each copy is waited for."""
    logits = []
    with torch.inference_mode():
        for index in range(len(dataset)):
            item = dataset[0, index]
            views = [dataset.transform.crops(item.frames, picks) for picks in item.picks]
            logits.append(torch.cat([model(own.to(device)).cpu() for own in views]).numpy())
    return np.stack(logits)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_scores_are_those_of_the_cpu_and_of_plain_copies(device, model, workers, batch_size):
    dataset = view_dataset(VIDEOS, model, clips=4, crops=3)
    expected = one_by_one(model.to(CPU), dataset, CPU)
    found = scores_of(model, dataset, device, workers, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    plain = one_by_one(model, dataset, device)
    np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_large_copies_overlap_with_the_network_without_mixing_videos(device, model):
    """Each video takes milliseconds to copy, while the network works on the one before."""
    dataset = view_dataset(VIDEOS, model, clips=6, crops=3, scale_size=480)
    found = scores_of(model, dataset, device, workers=2)
    plain = one_by_one(model, dataset, device)
    np.testing.assert_allclose(found, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


def test_loaders_pin_what_could_be_read(cuda, model):
    dataset = train_dataset(4, model)
    dataset.unreadable = (2, 3, 4)
    one, none = make_loader(dataset, ShardSampler(4), 2, workers=1, pin_memory=True)
    assert isinstance(one, Batch) and one.clips.is_pinned() and one.labels.is_pinned()
    assert isinstance(one.failures[0], Failure) and none.clips is None
    dataset = view_dataset(2, model)
    dataset.unreadable = (2,)
    item, failure = make_loader(dataset, ShardSampler(2), None, workers=1, pin_memory=True)
    assert isinstance(item, Frames) and item.frames.is_pinned() and isinstance(failure, Failure)


def peak_of(work, device):
    """What a function returns, and the most bytes that PyTorch held while it ran."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return work(), torch.cuda.max_memory_allocated(device)


@pytest.fixture
def limit_memory(cuda):
    """A function that limits the bytes that PyTorch may take on the GPU beside what it holds now.

    The limit ends with the test.
    """

    def limit(count):
        gc.collect()
        torch.cuda.empty_cache()
        allowed = torch.cuda.memory_reserved(cuda) + count
        total = torch.cuda.get_device_properties(cuda).total_memory
        torch.cuda.set_per_process_memory_fraction(allowed / total, cuda)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0, cuda)


def test_views_are_halved_when_memory_runs_out(cuda, limit_memory, capsys):
    model = randomize_norms(small_model("tsm", input_size=224))
    dataset = view_dataset(2, model, clips=10, crops=3)
    all_views = {"batch_size": 10}

    def score_alone():
        return scores_of(model, dataset, cuda, view_batch=1)

    def score_at_once():
        return scores_of(model, dataset, cuda, **all_views)

    expected, peak_of_one = peak_of(score_alone, cuda)
    _, peak_of_all = peak_of(score_at_once, cuda)
    assert peak_of_all > 2 * peak_of_one
    limit_memory((peak_of_one + peak_of_all) // 2)
    found = score_at_once()
    assert "views at once do not fit into the memory" in capsys.readouterr().out
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_view_that_does_not_fit_is_one_line(cuda, limit_memory):
    model = small_model("tsm", num_segments=16, input_size=448).to(cuda)
    dataset = view_dataset(1, model)
    limit_memory(100 * 2**20)  # room for the uint8 frames, but not for the first convolution
    with pytest.raises(UserError, match="too little memory for a single view"):
        scores_of(model, dataset, cuda)


def test_cuda_is_the_gpu_of_the_local_rank(cuda):
    assert choose_device("cuda") == choose_device(None) == torch.device("cuda", 0)


def test_predictor_and_its_timeline(device, model, tmp_path):
    """As a user predicts: a folder of frames, the name of the device."""
    pytest.importorskip("av")
    from PIL import Image

    from ops.predict import Predictor

    dataset = view_dataset(1, model)
    frames = dataset[0, 0].frames
    for number in range(16):
        pixels = frames[number % len(frames)].numpy()
        Image.fromarray(pixels).save(tmp_path / f"img_{number + 1:05}.png")
    names = [str(label) for label in range(model.num_class)]
    results = []
    for place in ("cpu", device.type):
        predictor = Predictor(model, place, class_names=names)
        windows = list(predictor.windows(tmp_path, window=0.4, step=0.2))
        results.append([predictor(tmp_path).logits, *(window.logits for window in windows)])
    assert len(results[0]) > 2
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3, atol=1e-3)
