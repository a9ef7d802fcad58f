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


def read(model):
    """The tensors of a file or of a torchvision net."""
    import torch
    if os.path.exists(model):
        loaded = torch.load(model, map_location="cpu")
        loaded = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded.state_dict()
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    import torchvision
    if not hasattr(torchvision.models, model):
        sys.exit(f"torch_to_safetensors.py: {model} is neither a file nor a net of torchvision")
    return getattr(torchvision.models, model)(weights="DEFAULT").state_dict()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__.split("\n\n")[1].split("\n")[0], file=sys.stderr)
        sys.exit(2)
    write(sys.argv[2], read(sys.argv[1]))
