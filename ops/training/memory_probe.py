"""The memory that a training step needs on a GPU."""

import torch

from ops.training.sync_batchnorm import each_alone
from ops.utils.amp import autocast

# Beside what a probe sees there are the loss, the buffers of NCCL, larger workspaces of cuDNN and
# memory that is free but in pieces.
USABLE_SHARE = 0.9
# Copies of the trained parameters that an optimizer keeps: AdamW two, SGD one.
OPTIMIZER_STATES = 2
GIB = 2**30


class MemoryProbe:
    """Measures the memory of steps with random clips. The network stays as it is.

    Args:
        net: a TSN.
        device: of CUDA, where it is.
        amp: "none", "bf16" or "fp16".
        has_average: whether the training keeps an average of the weights.
    """

    def __init__(self, net, device, *, amp, has_average):
        self.net = net
        self.device = device
        self.amp = amp
        self.reserve = 0
        for parameter in net.parameters():
            size = parameter.numel() * parameter.element_size()
            if parameter.requires_grad:
                self.reserve += OPTIMIZER_STATES * size
            if has_average:
                self.reserve += size
        self.usable = int(USABLE_SHARE * self._available())

    def describe(self):
        """A few words for the log."""
        return f"{USABLE_SHARE:.0%} of the memory of {self.device}, {self.usable / GIB:.1f} GiB"

    def fits(self, batch):
        """Whether a step with so many videos fits into the usable memory."""
        try:
            needed = self._peak(batch) + self.reserve
        except torch.OutOfMemoryError:
            return False
        finally:
            self.net.zero_grad(set_to_none=True)
            # The next step shall find the memory in one piece.
            torch.cuda.empty_cache()
        return needed <= self.usable

    def _peak(self, batch):
        """The peak of the memory in a forward and a backward pass, in bytes."""
        net = self.net
        statistics = [buffer.clone() for buffer in net.buffers()]
        shape = (batch, net.num_segments, net.frame_channels, net.input_size, net.input_size)
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            # Its draws have no effect: each step of a training seeds them anew.
            clips = torch.randint(256, shape, dtype=torch.uint8, device=self.device)
            # Processes try different sizes: synchronized BatchNorms must not wait for each other.
            with each_alone(net):
                with autocast(self.device, self.amp):
                    loss = net.train()(clips).float().sum()
                loss.backward()
        finally:
            for buffer, before in zip(net.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return torch.cuda.max_memory_allocated(self.device)

    def _available(self):
        """The memory that this process has or can get, in bytes."""
        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device)
