#!/usr/bin/env python3
"""Writes the weights of a PyTorch model as safetensors, which the programs and lp_load_weights read.

usage: torch_to_safetensors.py MODEL OUT.safetensors
MODEL: a file that torch.save made of a model or its state_dict; or the name of a torchvision net
(resnet50, densenet121, ...), which is downloaded, trained on ImageNet.
Needs PyTorch, and torchvision for a name.  Exit code 1: no such model; 2: wrong arguments."""
import json
import os
import struct
import sys


def write(path, tensors):
    """tensors: name -> torch tensor.  What is not a float is left out (BatchNorm's num_batches_tracked)."""
    header, data = {"__metadata__": {"format": "pt"}}, []
    at = 0
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        data.append(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))
    os.replace(path + ".part", path)


def fail(what):
    sys.exit(f"torch_to_safetensors.py: {what}")


def of_file(torch, path):
    """The tensors that torch.save wrote, of a model or of its state_dict."""
    try:
        loaded = torch.load(path, map_location="cpu")
    except Exception as error:  # whatever unpickling can meet
        fail(f"{path} cannot be read by PyTorch: {error}".split("\n")[0])
    if hasattr(loaded, "state_dict"):
        loaded = loaded.state_dict()
    if isinstance(loaded, dict):
        loaded = loaded.get("state_dict", loaded)
    if not isinstance(loaded, dict) or not loaded or not all(torch.is_tensor(t) for t in loaded.values()):
        fail(f"{path}: expected a model or its state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def of_torchvision(name):
    """The weights that torchvision downloads for a net of this name."""
    try:
        import torchvision
    except ImportError:
        fail("torchvision is not installed (Debian: python3-torchvision)")
    net = getattr(torchvision.models, name, None)
    if not callable(net) or not name.islower():
        fail(f"{name} is neither a file nor a net of torchvision")
    try:
        return net(weights="DEFAULT").state_dict()
    except Exception as error:
        fail(f"{name}: no weights: {error}".split("\n")[0])


def main(arguments):
    if len(arguments) != 2:
        print(__doc__.split("\n\n")[1].split("\n")[0], file=sys.stderr)
        return 2
    try:
        import torch
    except ImportError:
        fail("PyTorch is not installed (Debian: python3-torch)")
    model, out = arguments
    try:
        write(out, of_file(torch, model) if os.path.exists(model) else of_torchvision(model))
    except OSError as error:
        fail(f"{out}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
