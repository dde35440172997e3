"""The networks: GoogLeNet, MultiBox's network, their weights and 8-bit quantization."""
