#!/usr/bin/env python3
"""WRN-10-1, WRN-16-1 with weights made from templates (the family hyper), a character model of two LSTMs and
torchvision's nets for photographs in PyTorch against latephase.h: made weights, forward, gradients, three steps
of SGD (Nesterov), of Adam and of AdamW (clipped), BatchNorm statistics, carried states; each tensor to 1e-4 of
its largest value.  Weights both ways as safetensors.  Needs python3-torch, python3-torchvision.
usage: torch_compare.py [OBJECT [full]]
OBJECT: tests/impl.c, compiled; full: larger nets and images; CC in the environment: the compiler"""
import copy, json, os, statistics, struct, subprocess, sys, tempfile
import torch, torch.nn as nn, torch.nn.functional as F

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(root, "data_scripts"))
import torch_to_safetensors
full = sys.argv[2:] == ["full"]


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.short = None if i == o else nn.Conv2d(i, o, 1, stride, 0, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        return self.conv2(F.relu(self.bn2(self.conv1(a)))) + (self.short(a) if self.short else x)


class Wrn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.bn, self.fc = nn.BatchNorm2d(64), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.blocks(self.conv0(x)))).mean((2, 3)))


def mixed(templates, e, out, ins, k):
    """The weight [out, in, k, k]: P pieces, each a sum of the templates, which lie here as in the file, [k, k, in / P,
    out]; input channel P i + p is channel i of piece p."""
    e = e.reshape(-1, len(templates))
    pieces = [sum(e[p, j] * t for j, t in enumerate(templates)) for p in range(len(e))]
    w = torch.zeros(out, ins, k, k)
    for i in range(ins):
        piece = pieces[i % len(e)].reshape(k, k, ins // len(e), out)
        w[:, i] = piece[:, :, i // len(e)].permute(2, 0, 1)
    return w


class Bank(nn.Module):
    """Templates and coefficients, whose rows go to the layers in their order."""
    def __init__(self, templates, size, rows, columns, first=0):
        super().__init__()
        self.templates = nn.Parameter(torch.randn(templates, size) * 0.1)
        self.coefficients = nn.Parameter(torch.randn(rows, columns) * 0.5)
        self.first = nn.Parameter(torch.randn(1, first) * 0.5) if first else None


class HyperBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.bn2, self.i, self.o, self.stride = nn.BatchNorm2d(i), nn.BatchNorm2d(o), i, o, stride
        self.short = None if i == o else Bank(3, i * o, 1, 3)

    def weights(self, bank, rows):
        """Those of the two convolutions: of i to o channels, and of o to o."""
        e = bank.first[0] if self.short else next(rows)
        return mixed(bank.templates, e, self.o, self.i, 3), mixed(bank.templates, next(rows), self.o, self.o, 3)

    def forward(self, x, bank, rows):
        w1, w2 = self.weights(bank, rows)
        a = F.relu(self.bn1(x))
        h = F.conv2d(F.relu(self.bn2(F.conv2d(a, w1, None, self.stride, 1))), w2, None, 1, 1)
        if not self.short:
            return h + x
        return h + F.conv2d(a, mixed(self.short.templates, self.short.coefficients[0], self.o, self.i, 1), None, self.stride)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_templates = nn.Parameter(torch.randn(10, 640) * 0.1)
        self.bias_templates = nn.Parameter(torch.randn(10, 10) * 0.1)
        self.coefficients = nn.Parameter(torch.randn(1, 10) * 0.3)

    def forward(self, x):
        e = self.coefficients[0]
        return F.linear(x, mixed(self.weight_templates, e, 10, 64, 1)[:, :, 0, 0], e @ self.bias_templates)


class HyperWrn(nn.Module):
    """WRN-16-1, n = 2: banks of 2 (2n - 1) = 6 templates; own banks of 3; 10 for the input layer and the head."""
    def __init__(self):
        super().__init__()
        self.conv0 = Bank(10, 27 * 16, 1, 10)
        self.group0 = Bank(6, 9 * 8 * 16, 4, 12)
        self.group1, self.group2 = Bank(6, 9 * 16 * 32, 3, 12, 6), Bank(6, 9 * 32 * 64, 3, 12, 6)
        self.blocks = nn.ModuleList(HyperBlock(i, o, s) for i, o, s in [(16, 16, 1), (16, 16, 1), (16, 32, 2),
                                                                        (32, 32, 1), (32, 64, 2), (64, 64, 1)])
        self.bn, self.fc = nn.BatchNorm2d(64), Head()

    def forward(self, x):
        h = F.conv2d(x, mixed(self.conv0.templates, self.conv0.coefficients[0], 16, 3, 3), None, 1, 1)
        for g, bank in enumerate((self.group0, self.group1, self.group2)):
            rows = iter(bank.coefficients)
            for block in self.blocks[2 * g:2 * g + 2]:
                h = block(h, bank, rows)
        return self.fc(F.relu(self.bn(h)).mean((2, 3)))

    def made(self):
        """The first weight from each bank, by our names."""
        yield "conv0.weight", mixed(self.conv0.templates, self.conv0.coefficients[0], 16, 3, 3)
        yield "blocks.0.conv1.weight", mixed(self.group0.templates, self.group0.coefficients[0], 16, 16, 3)
        yield "blocks.2.conv1.weight", mixed(self.group1.templates, self.group1.first[0], 32, 16, 3)
        yield "blocks.4.conv1.weight", mixed(self.group2.templates, self.group2.first[0], 64, 32, 3)
        for b, o, i in (2, 32, 16), (4, 64, 32):
            short = self.blocks[b].short
            yield f"blocks.{b}.short.weight", mixed(short.templates, short.coefficients[0], o, i, 1)
        yield "fc.weight", mixed(self.fc.weight_templates, self.fc.coefficients[0], 10, 64, 1)[:, :, 0, 0]
        yield "fc.bias", self.fc.coefficients[0] @ self.fc.bias_templates


class CharLstm(nn.Module):
    def __init__(self, words, width, units, layers):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, units, layers, batch_first=True)
        self.out = nn.Linear(units, words)

    def forward(self, x, state):
        h, state = self.lstm(self.embed(x), state)
        return self.out(h), state


def read(path):
    arrays, f = {}, open(path, "rb")
    while name := f.readline().decode().strip():
        shape = [int(v) for v in f.readline().split()][1:]
        n = 1
        for s in shape:
            n *= s
        arrays[name] = torch.frombuffer(bytearray(f.read(4 * n)), dtype=torch.float32).reshape(shape)
    return arrays


def read_weights(path):
    """A safetensors file of floats as PyTorch's users get it; nothing but the names of LSTMs differs."""
    raw = open(path, "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    header, net = json.loads(raw[8:8 + n]), {}
    assert header.pop("__metadata__")["format"] == "pt"
    for name, t in header.items():
        assert t["dtype"] == "F32"
        data = bytearray(raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
        net[name] = torch.frombuffer(data, dtype=torch.float32).reshape(t["shape"])
    return net


def write_weights(path, net):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in net.state_dict().items():
        raw = t.contiguous().numpy().tobytes()
        header[ours_name(name)] = {"dtype": "I64" if t.dtype == torch.int64 else "F32",
                                   "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def exchange(kind, a, net, path, loaded):
    """The logits of our model there, and of the PyTorch model `loaded` here."""
    image = kind in ("wrn", "hyper")
    x = a["input"].permute(0, 3, 1, 2) if image else a["x"].long()
    forward = (lambda net: net(x)) if image else (lambda net: net(x, None)[0])
    weights = read_weights(path + ".safetensors")
    names = {ours_name(name): name for name, _ in net.named_parameters()}
    net.load_state_dict({names.get(name, name): t for name, t in weights.items()})
    with torch.no_grad():
        check(kind + " saved", a["saved"], forward(net.eval()))
        check(kind + " loaded", a["loaded"], forward(loaded.eval()))


def ours_name(name):
    """lstm.weight_ih_l1 -> lstm1.weight_ih_l0"""
    return f"lstm{name[-1]}.{name[5:-1]}0" if name.startswith("lstm.") else name


def ours(arrays, prefix, name):
    """That of PyTorch's parameter: HWIO -> OIHW, [in, out] -> [out, in]; a table, templates and their coefficients stay."""
    t = arrays[prefix + ours_name(name)]
    if t.dim() == 4:
        return t.permute(3, 2, 0, 1)
    stays = name == "embed.weight" or name.endswith(("templates", "coefficients", "first"))
    return t.t() if t.dim() == 2 and not stays else t


passed = failed = skipped = 0


def error_of(got, want):
    return ((got - want).abs().max() / want.abs().max().clamp_min(1e-12)).item()


def record(name, error, limit):
    global passed, failed
    if error <= limit:
        passed += 1
    else:
        failed += 1
        print(f"FAIL {name}: error {error:.3g}, limit {limit:.3g}")


def check(name, got, want):
    record(name, error_of(got, want), 1e-4)


def compare(kind, a, net, optimiser, forward, clip):
    """Three steps; forward(step) gives logits [lines, classes] and labels."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(ours(a, "before.", name))
    for step in range(3):
        optimiser.zero_grad()
        logits, y = forward(step)
        loss = F.cross_entropy(logits, y)  # a label of -100 does not count
        loss.backward()
        if step == 0:
            check(kind + " loss", a["loss"], loss.detach().reshape(1))
            check(kind + " logits", a["logits"].reshape(logits.shape), logits.detach())
            for name, p in net.named_parameters():
                check(f"{kind} grad.{name}", ours(a, "grad.", name), p.grad)
        norm = nn.utils.clip_grad_norm_(net.parameters(), clip)
        if step == 0:
            check(kind + " norm", a["norm"], norm.reshape(1))
        if clip < 1e6 and norm < 1.5 * clip:
            sys.exit(f"{kind}: the gradient, {norm}, is too short to be clipped")
        optimiser.step()
    for name, p in net.named_parameters():
        check(f"{kind} after.{name}", ours(a, "after.", name), p.detach())


def compare_made(a, net):
    """The library's weights made from its first templates and coefficients."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(ours(a, "before.", name))
        for name, w in net.made():
            got = a["made." + name]
            check("W from " + name, got.permute(3, 2, 0, 1) if got.dim() == 4 else got.t() if got.dim() == 2 else got, w)


def compare_wrn(kind, a):
    net = HyperWrn() if kind == "hyper" else Wrn()
    if kind == "hyper":
        compare_made(a, net)
    x, y = a["input"].permute(0, 3, 1, 2), (torch.arange(8) * 3) % 10
    optimiser = torch.optim.SGD(net.parameters(), 0.02 if kind == "hyper" else 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    compare(kind, a, net, optimiser, lambda step: (net(x), y), 1e9)
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            check("mean." + name, a["stats." + name][0], module.running_mean)
            check("variance." + name, a["stats." + name][1], module.running_var)


def compare_lstm(kind, a):
    words, width = a["before.embed.weight"].shape
    layers, _, rows, units = a["state"].shape
    net = CharLstm(words, width, units, layers)
    x, y = a["x"].long(), a["y"].long().flatten()
    state = (a["state"][:, 0].contiguous(), a["state"][:, 1].contiguous())
    rule = torch.optim.Adam if kind == "adam" else torch.optim.AdamW

    def forward(step):
        nonlocal state
        logits, state = net(x, state)
        state = tuple(s.detach() for s in state)
        return logits.flatten(0, 1), y

    compare(kind, a, net, rule(net.parameters(), 0.01, weight_decay=0.05), forward, 0.1)
    check(kind + " h", a["state.after"][:, 0], state[0])
    check(kind + " c", a["state.after"][:, 1], state[1])


# Kind, depth, batch, height, width of nets for photographs.
photographs = [("resnet", 18, 4, 61, 75)]
if full:
    photographs += [("resnet", 50, 2, 224, 224), ("resnet", 50, 2, 99, 131),
                    ("densenet", 121, 2, 224, 224), ("densenet", 121, 2, 131, 99)]


def photograph_net(kind, depth, batch, height, width):
    """With random weights and statistics that are not those of the start.  The last scales of the residual blocks are
    small: torchvision's start lets the images grow from block to block."""
    import torchvision
    torch.manual_seed(depth)
    net = getattr(torchvision.models, f"{kind}{depth}")(num_classes=10)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("bn3.weight" if depth >= 50 else "bn2.weight"):
                p.fill_(0.2)
        net(torch.randn(batch, 3, height, width))
    return net


def in_float(x):
    """What a C float holds of x."""
    return torch.tensor(x, dtype=torch.float32).item()


def three_steps(net, x, y):
    """Loss, logits and gradients of the first step, weights after the third; in double with constants that are floats."""
    constant = in_float if x.dtype == torch.float64 else float
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = constant(1e-5)
    optimiser = torch.optim.SGD(net.train().parameters(), constant(0.001), constant(0.9),
                                weight_decay=constant(5e-4), nesterov=True)
    found = {}
    for step in range(3):
        optimiser.zero_grad()
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        if step == 0:
            found = {"loss": loss.detach().reshape(1), "logits": logits.detach()}
            found.update({"grad." + name: p.grad.clone() for name, p in net.named_parameters()})
        optimiser.step()
    found.update({"after." + name: p.detach() for name, p in net.named_parameters()})
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            found["stats." + name] = torch.stack((module.running_mean, module.running_var))
    return found


def compare_photographs(size, exe, tmp, double):
    """Against PyTorch in double: every tensor of the library in double to 1e-4.  In float a relu
    whose input is about zero falls to one side or the other, and all gradients before it feel it: the median of
    their errors, and of those of the weights after three steps, is of the size of PyTorch's in float (here one such
    relu makes a factor of six, for us or for PyTorch)."""
    net, (kind, depth, batch, height, width) = photograph_net(*size), size
    weights, out = os.path.join(tmp, "weights"), os.path.join(tmp, "out")
    torch_to_safetensors.write(weights, net.state_dict())
    subprocess.run([exe, out, kind, weights] + [str(v) for v in size[1:]], check=True)
    a, name = read(out), f"{kind}-{depth} {height}x{width} in {'double' if double else 'float'}: "
    x, y = a["input"].permute(0, 3, 1, 2), (torch.arange(batch) * 3) % 10
    with torch.no_grad():
        check(name + "evaluated", a["evaluated"], net.eval()(x))
    want = three_steps(copy.deepcopy(net).double(), x.double(), y)
    got = {n: a[n] if n[:5] in ("loss", "logit", "stats") else ours(a, n[:n.index(".") + 1], n[n.index(".") + 1:]) for n in want}
    if double:
        for n in want:
            check(name + n, got[n].double(), want[n])
        return
    theirs = three_steps(net, x, y)
    check(name + "loss", got["loss"].double(), want["loss"])
    check(name + "logits", got["logits"].double(), want["logits"])
    for what in "grad.", "after.":
        errors = [[error_of(b[n].double(), want[n]) for n in want if n.startswith(what)] for b in (got, theirs)]
        limit = max(1e-5, 10 * statistics.median(errors[1]))
        record(name + what, statistics.median(errors[0]), limit)


def build(tmp, name, library, *flags):
    exe = os.path.join(tmp, name)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", *flags, os.path.join(root, "tests/torch_dump.c"), library,
                    "-o", exe, "-lpthread", "-lm"], check=True)
    return exe


with tempfile.TemporaryDirectory() as tmp:
    implementation, out = os.path.join(root, "tests/impl.c"), os.path.join(tmp, "out")
    exe = build(tmp, "dump", sys.argv[1] if len(sys.argv) > 1 else implementation)
    for kind in "wrn", "hyper", "adam", "adamw":
        make = {"wrn": Wrn, "hyper": HyperWrn}.get(kind, lambda: CharLstm(11, 7, 13, 2))
        net, other = make(), make()
        if kind in ("wrn", "hyper"):  # statistics that are not those of the start
            net(torch.randn(8, 3, 16, 16))
        write_weights(os.path.join(tmp, "weights"), net)
        subprocess.run([exe, out, kind, os.path.join(tmp, "weights")], check=True)
        a = read(out)
        compare_wrn(kind, a) if kind in ("wrn", "hyper") else compare_lstm(kind, a)
        exchange(kind, a, other, out, net)
    try:
        import torchvision
    except ImportError:
        print("skipped: nets for photographs (Debian: python3-torchvision)")
        skipped, photographs = 1, []
    for size in photographs:
        compare_photographs(size, exe, tmp, False)
    if full and photographs:
        exe = build(tmp, "dump64", implementation, "-DLP_REAL=double")
    for size in photographs if full else []:
        compare_photographs(size, exe, tmp, True)
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0)
