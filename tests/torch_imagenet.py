#!/usr/bin/python3
"""Peer measurement: torchvision's nets at 224x224 on PyTorch CPU.  Debian: python3-torchvision
usage: torch_imagenet.py resnet50|densenet121|... BATCH [threads=2] [iterations=3] [contiguous|channels_last]
Prints the faster of both memory formats (or that of the one named) for training and inference, best of the
iterations, and the most memory that the process has had."""
import resource, sys, time, torch, torchvision, torch.nn.functional as F


def best(f, n):
    f()
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


name, batch = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
iterations = int(sys.argv[4]) if len(sys.argv) > 4 else 3
formats = [sys.argv[5]] if len(sys.argv) > 5 else ["contiguous_format", "channels_last"]
train, infer = [], []
for format in (getattr(torch, f if f != "contiguous" else "contiguous_format") for f in formats):
    net = getattr(torchvision.models, name)().to(memory_format=format)
    x, y = torch.randn(batch, 3, 224, 224).to(memory_format=format), torch.arange(batch) % 10
    optimiser = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(x), y).backward()
        optimiser.step()

    train.append(batch / best(step, iterations))
    net.eval()
    with torch.no_grad():
        infer.append(batch / best(lambda: net(x), iterations))
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"result peer=torch-{torch.__version__} net={name} batch={batch} train_img_s={max(train):.1f} "
      f"infer_img_s={max(infer):.1f} maxrss_mb={mb:.0f}", flush=True)
