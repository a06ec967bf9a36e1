import pytest
import torch

from ops.training.mixup import mixer


def batch(count=4, size=16):
    """Clips of one grey each, so that a mixed pixel tells its share: 0, 60, 120, ..."""
    clips = (
        torch.zeros(count, 3, 2, size, size, dtype=torch.uint8)
        + 60 * torch.arange(count)[:, None, None, None, None]
    )
    return clips.to(torch.uint8), torch.arange(count)


def test_without_mixtures_there_is_no_mixer():
    assert mixer(5) is None


@pytest.mark.parametrize("seed", range(5))
def test_mixup_has_the_same_share_of_pixels_and_labels(seed):
    torch.manual_seed(seed)
    clips, labels = batch()
    mixed, shares = mixer(5, mixup=0.8)(clips, labels)
    assert mixed.dtype == torch.uint8 and mixed.shape == clips.shape and shares.shape == (4, 5)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    own = shares[range(4), labels]
    assert torch.allclose(own, own[0]) and 0 <= own[0] <= 1
    expected = (own[0] * clips.float() + (1 - own[0]) * clips.roll(1, 0).float()).round()
    assert (mixed.float() - expected).abs().max() <= 1  # of which the sum is rounded otherwise
    assert torch.equal(shares[1, 0], shares[2, 1])  # the neighbour before it in the batch


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_puts_the_same_box_into_all_frames(seed):
    torch.manual_seed(seed)
    clips, labels = batch()
    mixed, shares = mixer(5, cutmix=1.0)(clips, labels)
    changed = mixed != clips
    assert (changed == changed[:1, :1, :1]).all()  # every clip, frame and channel
    box = changed[0, 0, 0]
    assert (mixed == torch.where(box, clips.roll(1, 0), clips)).all()
    assert shares[0, 0].item() == pytest.approx(1 - box.float().mean().item(), abs=1e-6)


def test_both_take_turns_and_a_seed_repeats_them():
    clips, labels = batch()
    mix, kinds = mixer(5, mixup=1.0, cutmix=1.0), set()
    for seed in range(8):
        torch.manual_seed(seed)
        mixed, shares = mix(clips, labels)
        torch.manual_seed(seed)
        again, same = mix(clips, labels)
        assert torch.equal(mixed, again) and torch.equal(shares, same)
        kinds.add(bool(torch.isin(mixed, clips).all()))
    assert kinds == {True, False}


def test_labels_of_several_classes():
    torch.manual_seed(0)
    several = torch.tensor([[True, True, False], [False, True, False], [False, False, True]])
    _, shares = mixer(3, mixup=1.0)(batch(3)[0], several)
    assert shares.dtype == torch.float32 and shares[1, 1] == 1  # of both neighbours
    assert 0 < shares[1, 0] < 1 and shares[1, 2] == 0


def test_a_batch_of_one_stays_as_it_is():
    clips, labels = batch(1)
    mixed, shares = mixer(5, mixup=1.0)(clips, labels)
    assert torch.equal(mixed, clips) and shares.tolist() == [[1, 0, 0, 0, 0]]
