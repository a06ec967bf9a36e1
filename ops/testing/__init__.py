"""What both test scripts do; resumable runs."""

# Values of --runtime: what computes the network of a test. No import here needs torch.
TORCH, ONNXRUNTIME, INT8 = RUNTIMES = ("torch", "onnxruntime", "onnxruntime-int8")
