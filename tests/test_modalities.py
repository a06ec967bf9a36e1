import pytest
import torch

from ops.backbones.modalities import clip_images


@pytest.mark.parametrize(("modality", "channels"), [("RGB", 5 * 3), ("Flow", 5 * 2)])
def test_pictures_of_a_clip_are_its_pixels(modality, channels):
    clip = torch.randint(0, 256, (2, channels, 4, 6), dtype=torch.uint8)
    images = clip_images(clip, modality)
    if modality == "RGB":
        assert torch.equal(images, clip.view(2, 5, 3, 4, 6))
        return
    assert images.shape == (2, 5, 3, 8, 6)
    for t in range(2):
        for k in range(5):
            x, y = clip[t, 2 * k], clip[t, 2 * k + 1]
            assert torch.equal(images[t, k, 1], torch.cat([x, y]))


def test_differences_are_half_around_gray():
    clip = torch.tensor([10, 30, 250], dtype=torch.uint8).repeat_interleave(3)
    images = clip_images(clip.view(1, 9, 1, 1), "RGBDiff")
    assert images[0, :, 0, 0, 0].tolist() == [(256 + 20) // 2, (256 + 220) // 2]
