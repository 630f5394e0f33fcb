import torch

# small networks: one thread each is fastest, and leaves the cores to pytest-xdist
torch.set_num_threads(1)
