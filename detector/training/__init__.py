"""Training: from annotated images to the weights of a network.

Each kind of training is a file that reads from top to bottom: `regions`, `multibox`, `classifier`.
They share `start` (folder, processes, device), `fit` (the loop) and `export` (the files).

How a training image becomes a gradient, for `regions`:

1. `data_set` reads its annotations.
2. `detector.batch.proposal_cache` adds its proposals.
3. `labelled_regions` labels them as objects or background.
4. `fit` asks for a batch, which `region_batches` makes.
5. `sampling` draws regions, and `augmentation` varies them at random.
6. `image_cache` reads the image.
7. `batch_crops` cuts the crops, and `distortion` changes their colours.
8. `objective` computes the loss, and `fit` its gradient and the update.
"""
