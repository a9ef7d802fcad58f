#!/usr/bin/env python3
"""WRN-10-1 in PyTorch against latephase.h: forward, gradients, three steps of SGD (Nesterov), BatchNorm
statistics; each tensor to 1e-4 of its largest value.  Needs python3-torch.  usage: torch_compare.py [CC]"""
import os, subprocess, sys, tempfile
import torch, torch.nn as nn, torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.short = None if i == o else nn.Conv2d(i, o, 1, stride, 0, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        return self.conv2(F.relu(self.bn2(self.conv1(a)))) + (self.short(a) if self.short else x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.bn, self.fc = nn.BatchNorm2d(64), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.blocks(self.conv0(x)))).mean((2, 3)))


def read(path):
    arrays, f = {}, open(path, "rb")
    while name := f.readline().decode().strip():
        shape = [int(v) for v in f.readline().split()][1:]
        n = 1
        for s in shape:
            n *= s
        arrays[name] = torch.frombuffer(bytearray(f.read(4 * n)), dtype=torch.float32).reshape(shape)
    return arrays


def ours_to_torch(t):
    """HWIO -> OIHW, [in, out] -> [out, in]"""
    return t.permute(3, 2, 0, 1) if t.dim() == 4 else t.t() if t.dim() == 2 else t


root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
passed = failed = 0


def check(name, got, want):
    global passed, failed
    error = ((got - want).abs().max() / want.abs().max().clamp_min(1e-12)).item()
    if error <= 1e-4:
        passed += 1
    else:
        failed += 1
        print(f"FAIL {name}: error {error:.3g}")


with tempfile.TemporaryDirectory() as tmp:
    exe, out = os.path.join(tmp, "dump"), os.path.join(tmp, "out")
    cc = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CC", "cc")
    subprocess.run([cc, "-O2", os.path.join(root, "tests/torch_dump.c"), "-o", exe, "-lpthread"], check=True)
    subprocess.run([exe, out], check=True)
    a = read(out)

net = Net()
net.load_state_dict({k[7:]: ours_to_torch(v) for k, v in a.items() if k.startswith("before.")}, strict=False)
optimiser = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
x, y = a["input"].permute(0, 3, 1, 2), (torch.arange(8) * 3) % 10
for step in range(3):
    optimiser.zero_grad()
    logits = net(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    if step == 0:
        check("loss", a["loss"], loss.detach().reshape(1))
        check("logits", a["logits"], logits.detach())
        for name, p in net.named_parameters():
            check("grad." + name, ours_to_torch(a["grad." + name]), p.grad)
    optimiser.step()
for name, p in net.named_parameters():
    check("after." + name, ours_to_torch(a["after." + name]), p.detach())
for name, module in net.named_modules():
    if isinstance(module, nn.BatchNorm2d):
        check("mean." + name, a["stats." + name][0], module.running_mean)
        check("variance." + name, a["stats." + name][1], module.running_var)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
